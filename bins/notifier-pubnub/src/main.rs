//! Publishes to PubNub. See the library of this crate.

use std::process::ExitCode;

fn main() -> ExitCode {
    runtime::start(&notifier_pubnub::PROGRAM, notifier_pubnub::run)
}
