use domain::{Notification, OnUnknown, Outcome, State};

/// What a request asks. All are about the same process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ask {
    Start,
    Stop,
}

/// Everything at one moment. Equal programs are interchangeable, so they are kept sorted: it halves the states twice.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct World {
    /// How many requests were applied at least once. They come in order, so these are the first ones.
    pub(crate) applied: usize,
    /// How many starts among them took effect.
    pub(crate) accepted: usize,
    /// Which requests were deleted from SQS.
    pub(crate) deleted: u8,
    /// The request that the bridge has committed and not yet deleted.
    pub(crate) bridge: Option<usize>,
    /// One row for each run of the process, since a start has one notification here.
    pub(crate) rows: Vec<Row>,
    pub(crate) activators: [Activator; 2],
    pub(crate) workers: [Worker; 2],
    /// How many faults may still happen.
    pub(crate) faults: u8,
    /// What must never happen, and did.
    pub(crate) breaches: Vec<Breach>,
}

/// A row of table `notification`, its messages, and what the properties want to know of its past.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Row {
    pub(crate) notification: Notification,
    /// Its `due_at` has passed.
    pub(crate) due: bool,
    pub(crate) wake: Option<Wake>,
    /// Its messages in the broker, in work and retry queues alike. They have no order.
    pub(crate) messages: u8,
    /// A stop was committed that concerned it.
    pub(crate) stopped: bool,
    /// The broker took a publication of the activators under the present fence.
    pub(crate) routed: bool,
    /// Its `confirmed_at` is set.
    pub(crate) confirmed: bool,
    /// The broker has lost a message of it, and nothing was published or claimed since.
    pub(crate) lost: bool,
    /// The claims under which the provider was called.
    pub(crate) called: Claims,
    /// The claims whose answer was recorded.
    pub(crate) answered: Claims,
    /// The claims that ran out, and stand in the history as unknown.
    pub(crate) unknown: Claims,
    /// The claims that were given back without a call.
    pub(crate) given_back: Claims,
    /// The claims whose worker a fault has hit.
    pub(crate) hit: Claims,
}

/// When an activator looks at a row again: its `wake_at`, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Wake {
    /// At once.
    Now,
    /// When it is due. It may be published shortly before that, and waits in its worker.
    AtDue,
    /// Some time after it is due, in case that nothing comes of its message; or when its claim has run out.
    Later,
    /// An hour later, since the broker has its message for sure.
    Confirmed,
}

/// A set of claims, by fence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Claims(u16);

impl Claims {
    pub(crate) fn one(fence: i64) -> Self {
        Self(1 << fence)
    }

    /// All up to the one with this fence. The first claim has fence 1.
    pub(crate) fn up_to(fence: i64) -> Self {
        Self((2 << fence) - 2)
    }

    pub(crate) fn add(&mut self, fence: i64) {
        *self = self.and(Self::one(fence));
    }

    pub(crate) fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(crate) fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    pub(crate) fn is_within(self, other: Self) -> bool {
        self.without(other).0 == 0
    }

    pub(crate) fn has(self, fence: i64) -> bool {
        Self::one(fence).is_within(self)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Activator {
    Idle,
    /// The row is marked as queued, the message not published yet.
    Took(Publication),
    /// Published; what the broker said is not written down yet.
    Published(Publication, Reply),
    /// Has read that the claim has run out, and changed nothing yet.
    SawRunOut {
        row: usize,
    },
}

impl Activator {
    /// The row that it is busy with.
    pub(crate) fn row(self) -> Option<usize> {
        match self {
            Self::Took(publication) | Self::Published(publication, _) => Some(publication.row),
            Self::SawRunOut { row } => Some(row),
            Self::Idle => None,
        }
    }

    fn publication(&mut self) -> Option<&mut Publication> {
        match self {
            Self::Took(publication) | Self::Published(publication, _) => Some(publication),
            Self::SawRunOut { .. } | Self::Idle => None,
        }
    }
}

/// What an activator shows when it writes down what became of a publication.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Publication {
    pub(crate) row: usize,
    pub(crate) fence: i64,
    /// The row still has the `wake_at` that the take gave it. That it has passed makes no difference.
    pub(crate) wake_stands: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Reply {
    Confirmed,
    Returned,
    /// Confirmed, and dropped: nobody was bound to take it, and the broker was not asked to tell.
    Dropped,
    /// The connection broke before the confirm came.
    None,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Worker {
    Idle,
    /// May call, and has not.
    Claimed {
        row: usize,
        fence: i64,
        frozen: bool,
    },
    /// Has called and knows what came of it; it is not recorded.
    Called {
        row: usize,
        fence: i64,
        outcome: Answer,
        frozen: bool,
    },
    /// Has recorded that there is to be another try, which the broker is to bring; the message is not acknowledged.
    Retrying {
        row: usize,
    },
    /// Has nothing to do but to acknowledge the message.
    Done {
        row: usize,
    },
}

impl Worker {
    /// The claim that it works under, whether or not it has lost it.
    pub(crate) fn claim(self) -> Option<(usize, i64)> {
        match self {
            Self::Claimed { row, fence, .. } | Self::Called { row, fence, .. } => Some((row, fence)),
            Self::Idle | Self::Retrying { .. } | Self::Done { .. } => None,
        }
    }

    pub(crate) fn is_frozen(self) -> bool {
        matches!(self, Self::Claimed { frozen: true, .. } | Self::Called { frozen: true, .. })
    }
}

/// What the provider answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Answer {
    Delivered,
    Temporary,
    Unknown,
    Permanent,
    /// With a Retry-After, so that it comes back by the database's clock.
    RateLimited,
    ChannelDown,
}

impl Answer {
    pub(crate) fn outcome(self) -> Outcome {
        match self {
            Self::Delivered => Outcome::Delivered,
            Self::Temporary => Outcome::Temporary,
            Self::Unknown => Outcome::Unknown,
            Self::Permanent => Outcome::Permanent,
            Self::RateLimited => Outcome::RateLimited,
            Self::ChannelDown => Outcome::ChannelDown,
        }
    }

    /// It costs no attempt, so that only the number of faults bounds how often it comes.
    pub(crate) fn is_a_fault(self) -> bool {
        !self.outcome().costs_an_attempt()
    }
}

/// What must never happen, and can't be seen in the state that it leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Breach {
    AppliedTwice,
    ClaimedBeforeDue,
    ClaimedAfterStop,
    ChangedWithoutClaim,
    LooksPublished,
}

impl World {
    pub(crate) fn fresh(faults: u8) -> Self {
        Self {
            applied: 0,
            accepted: 0,
            deleted: 0,
            bridge: None,
            rows: Vec::new(),
            activators: [Activator::Idle; 2],
            workers: [Worker::Idle; 2],
            faults,
            breaches: Vec::new(),
        }
    }

    /// Writes a row's `wake_at`: publications that know another one are outdated.
    pub(crate) fn set_wake(&mut self, row: usize, wake: Option<Wake>) {
        self.rows[row].wake = wake;
        self.publications(row).for_each(|publication| publication.wake_stands = false);
    }

    /// The publications of a row of which the activators have not written down what became.
    pub(crate) fn publications(&mut self, row: usize) -> impl Iterator<Item = &mut Publication> {
        self.activators.iter_mut().filter_map(Activator::publication).filter(move |publication| publication.row == row)
    }

    pub(crate) fn is_deleted(&self, request: usize) -> bool {
        self.deleted & 1 << request != 0
    }

    pub(crate) fn breach(&mut self, breach: Breach) {
        if !self.breaches.contains(&breach) {
            self.breaches.push(breach);
        }
    }
}

impl Row {
    pub(crate) fn new(max_attempts: u16, on_unknown: OnUnknown) -> Self {
        let state = State::Scheduled;
        Self {
            notification: Notification {
                state,
                fence: 0,
                stop_requested: false,
                attempts: 0,
                max_attempts,
                on_unknown,
            },
            due: false,
            wake: Some(Wake::AtDue),
            messages: 0,
            stopped: false,
            routed: false,
            confirmed: false,
            lost: false,
            called: Claims::default(),
            answered: Claims::default(),
            unknown: Claims::default(),
            given_back: Claims::default(),
            hit: Claims::default(),
        }
    }

    pub(crate) fn state(&self) -> State {
        self.notification.state
    }

    pub(crate) fn fence(&self) -> i64 {
        self.notification.fence
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.state().is_final()
    }

    /// It waits for a worker, or for its next try.
    pub(crate) fn is_waiting(&self) -> bool {
        matches!(self.state(), State::Queued | State::Retrying)
    }
}
