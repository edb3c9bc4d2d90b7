use std::{fmt, str::FromStr};

/// What came of one call to a provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The provider accepted it. What became of it at the other end is not known by this.
    Delivered,
    /// Proven not to have been carried out, and worth another try.
    Temporary,
    /// Refused because too much was asked in too short a time; not carried out, and costs no attempt.
    RateLimited,
    /// Refused, and would be refused again.
    Permanent,
    /// The provider refuses this whole channel (wrong credentials, account closed), or is away; costs no attempt.
    ChannelDown,
    /// Nobody can tell whether it was carried out.
    Unknown,
    /// The worker only said what it would have sent, as it was told to; nobody was called.
    DryRun,
}

/// The text names no outcome.
#[derive(Debug, thiserror::Error)]
#[error("no such outcome: {0:?}")]
pub struct UnknownOutcome(String);

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Delivered,
        Self::Temporary,
        Self::RateLimited,
        Self::Permanent,
        Self::ChannelDown,
        Self::Unknown,
        Self::DryRun,
    ];

    /// The name in the database, in logs and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Temporary => "temporary",
            Self::RateLimited => "rate_limited",
            Self::Permanent => "permanent",
            Self::ChannelDown => "channel_down",
            Self::Unknown => "unknown",
            Self::DryRun => "dry_run",
        }
    }

    /// Whether the call uses up one of the notification's attempts.
    pub fn costs_an_attempt(self) -> bool {
        !matches!(self, Self::RateLimited | Self::ChannelDown | Self::DryRun)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Outcome {
    type Err = UnknownOutcome;

    fn from_str(name: &str) -> Result<Self, UnknownOutcome> {
        Self::ALL.into_iter().find(|o| o.as_str() == name).ok_or_else(|| UnknownOutcome(name.to_owned()))
    }
}
