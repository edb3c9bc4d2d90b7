use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use devservers::{RabbitMq, Relay, Signal};
use rand::{RngExt, SeedableRng, rngs::StdRng, seq::SliceRandom};

use crate::{
    Flag,
    channel::{CHANNELS, Channel},
    installation::Installation,
    now_micros,
    program::Program,
    providers::Providers,
};

/// How long programs may take to be ready again, undisturbed, once a fault has ended.
const RECOVERY_LIMIT: Duration = Duration::from_secs(60);

/// A recovery that takes longer is told at once.
const WORTH_A_WORD: Duration = Duration::from_secs(5);

/// How many faults there are at once at most.
const AT_ONCE: usize = 3;

/// Where a program can kill itself, in builds with debug assertions.
const BRIDGE_POINTS: [&str; 2] = ["bridge.received", "bridge.committed"];
const ACTIVATOR_POINTS: [&str; 2] = ["activator.claimed", "activator.confirmed"];
const WORKER_POINTS: [&str; 6] = [
    "notifier.taken",
    "notifier.claimed",
    "notifier.calling",
    "notifier.called",
    "notifier.recorded",
    "notifier.retry_published",
];

/// What can go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    ProgramKilled,
    BridgeKilledAtPoint,
    ActivatorKilledAtPoint,
    WorkerKilledAtPoint,
    ProgramFrozen,
    ProgramRestarted,
    PostgresKilled,
    PostgresRestarted,
    RabbitMqKilled,
    RabbitMqRestarted,
    ConnectionCut,
    ConnectionDelayed,
    AnswersLost,
    ChannelPaused,
    ProviderMisbehaves,
}

impl Kind {
    pub(crate) const ALL: [Self; 15] = [
        Self::ProgramKilled,
        Self::BridgeKilledAtPoint,
        Self::ActivatorKilledAtPoint,
        Self::WorkerKilledAtPoint,
        Self::ProgramFrozen,
        Self::ProgramRestarted,
        Self::PostgresKilled,
        Self::PostgresRestarted,
        Self::RabbitMqKilled,
        Self::RabbitMqRestarted,
        Self::ConnectionCut,
        Self::ConnectionDelayed,
        Self::AnswersLost,
        Self::ChannelPaused,
        Self::ProviderMisbehaves,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::ProgramKilled => "program killed",
            Self::BridgeKilledAtPoint => "bridge killed at a failpoint",
            Self::ActivatorKilledAtPoint => "activator killed at a failpoint",
            Self::WorkerKilledAtPoint => "worker killed at a failpoint",
            Self::ProgramFrozen => "program frozen",
            Self::ProgramRestarted => "program restarted",
            Self::PostgresKilled => "Postgres killed",
            Self::PostgresRestarted => "Postgres restarted",
            Self::RabbitMqKilled => "RabbitMQ killed",
            Self::RabbitMqRestarted => "RabbitMQ restarted",
            Self::ConnectionCut => "connections cut",
            Self::ConnectionDelayed => "connections delayed",
            Self::AnswersLost => "answers lost",
            Self::ChannelPaused => "channel paused",
            Self::ProviderMisbehaves => "provider misbehaves",
        }
    }
}

/// A fault, as it was injected.
#[derive(Debug, Clone)]
pub(crate) struct Fault {
    pub(crate) kind: Kind,
    /// Whom it hit: a program's label, a server, a channel.
    pub(crate) target: String,
    /// When it began, in microseconds since 1970.
    pub(crate) began: i64,
    /// When it was over and mended.
    pub(crate) ended: i64,
    /// How long it took after that until whoever it hit was ready, and nothing else disturbed.
    pub(crate) recovery: Option<Duration>,
}

/// What the random numbers say of the next fault.
#[derive(Debug)]
struct Plan {
    kind: Kind,
    /// Targets in this order of preference: those that a fault has hit already are passed over.
    order: Vec<usize>,
    hold: Duration,
    choice: usize,
}

/// Injects faults, mends them, and measures how long the recovery takes.
pub(crate) struct Faults<'a> {
    installation: &'a Installation,
    providers: &'a Providers<'a>,
    ending: &'a Flag,
    say: &'a (dyn Fn(&str) + Sync),
    /// Targets with a fault; true until it is mended, then false until all has recovered from it.
    busy: Mutex<BTreeMap<String, bool>>,
    injected: Mutex<Vec<Fault>>,
    problems: Mutex<Vec<String>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nobody panics while holding this lock")
}

impl<'a> Faults<'a> {
    pub(crate) fn new(
        installation: &'a Installation,
        providers: &'a Providers<'a>,
        ending: &'a Flag,
        say: &'a (dyn Fn(&str) + Sync),
    ) -> Self {
        let (busy, injected, problems) = (Mutex::default(), Mutex::default(), Mutex::default());
        Self { installation, providers, ending, say, busy, injected, problems }
    }

    /// Injects faults until it is to end, one about every `every`; then mends all, and answers what there was and what
    /// did not recover.
    /// Raises `round` when there was each kind once.
    pub(crate) fn run(self, seed: u64, every: Duration, round: &Flag) -> (Vec<Fault>, Vec<String>) {
        let mut random = StdRng::seed_from_u64(seed);
        let mut deck = Kind::ALL.to_vec();
        deck.shuffle(&mut random);
        thread::scope(|scope| {
            while !self.ending.is_raised() {
                if deck.is_empty() {
                    round.raise();
                    // Each kind once before any comes again.
                    deck.extend(Kind::ALL);
                    deck.shuffle(&mut random);
                }
                let plan = self.plan(deck.pop().expect("it was filled"), &mut random);
                self.ending.pause(every.mul_f64(random.random_range(0.6..1.4)));
                while self.active() >= AT_ONCE && !self.ending.is_raised() {
                    thread::sleep(Duration::from_millis(20));
                }
                if self.ending.is_raised() {
                    break;
                }
                match self.take_target(&plan) {
                    Some((target, index)) => {
                        let this = &self;
                        scope.spawn(move || this.go_through(&plan, &target, index));
                    }
                    // All that it could hit is hit already: later.
                    None => deck.insert(0, plan.kind),
                }
            }
        });
        (self.injected.into_inner().unwrap_or_default(), self.problems.into_inner().unwrap_or_default())
    }

    fn plan(&self, kind: Kind, random: &mut StdRng) -> Plan {
        let mut order: Vec<_> = (0..self.targets(kind).len()).collect();
        order.shuffle(random);
        Plan {
            kind,
            order,
            hold: Duration::from_millis(random.random_range(300..5_000)),
            choice: random.random_range(0..1_000),
        }
    }

    /// The names of all that such a fault can hit.
    fn targets(&self, kind: Kind) -> Vec<String> {
        let of_role = |role: &str| {
            let labels = self.installation.programs.iter().map(|program| program.label.clone());
            labels.filter(|label| label.starts_with(role)).collect()
        };
        let names =
            |channels: &mut dyn Iterator<Item = &'static Channel>| channels.map(|c| c.name.to_owned()).collect();
        match kind {
            Kind::BridgeKilledAtPoint => of_role("bridge"),
            Kind::ActivatorKilledAtPoint => of_role("activator"),
            Kind::WorkerKilledAtPoint => of_role("notifier-"),
            Kind::ProgramKilled
            | Kind::ProgramFrozen
            | Kind::ProgramRestarted
            | Kind::ConnectionCut
            | Kind::ConnectionDelayed
            | Kind::AnswersLost => of_role(""),
            Kind::PostgresKilled | Kind::PostgresRestarted => vec!["Postgres".to_owned()],
            Kind::RabbitMqKilled | Kind::RabbitMqRestarted => vec!["RabbitMQ".to_owned()],
            Kind::ChannelPaused => names(&mut CHANNELS.iter()),
            Kind::ProviderMisbehaves => {
                names(&mut Providers::channels()).into_iter().map(|name: String| format!("{name}'s provider")).collect()
            }
        }
    }

    fn take_target(&self, plan: &Plan) -> Option<(String, usize)> {
        let targets = self.targets(plan.kind);
        let mut busy = locked(&self.busy);
        let index = *plan.order.iter().find(|index| !busy.contains_key(&targets[**index]))?;
        busy.insert(targets[index].clone(), true);
        Some((targets[index].clone(), index))
    }

    fn active(&self) -> usize {
        locked(&self.busy).values().filter(|active| **active).count()
    }

    fn go_through(&self, plan: &Plan, target: &str, index: usize) {
        let began = now_micros();
        let done = self.inject(plan, target, index);
        let ended = now_micros();
        locked(&self.busy).insert(target.to_owned(), false);
        let recovery = match done {
            Ok(()) => self.recovery(plan.kind, target),
            Err(error) => {
                let problem = format!("{} ({target}) could not be injected or mended: {error:#}", plan.kind.name());
                locked(&self.problems).push(problem);
                None
            }
        };
        if let Some(recovery) = recovery.filter(|recovery| *recovery > WORTH_A_WORD) {
            (self.say)(&format!(
                "recovered from {} ({target}) after {:.1} s",
                plan.kind.name(),
                recovery.as_secs_f64()
            ));
        }
        locked(&self.injected).push(Fault { kind: plan.kind, target: target.to_owned(), began, ended, recovery });
        locked(&self.busy).remove(target);
    }

    /// Injects one fault, holds it, and mends it.
    fn inject(&self, plan: &Plan, target: &str, index: usize) -> Result<()> {
        let installation = self.installation;
        let workplace = &installation.workplace;
        let hold = || self.ending.pause(plan.hold);
        let tell = |what: &str| (self.say)(&format!("{}: {target}{what}", plan.kind.name()));
        match plan.kind {
            // These say more, further down.
            Kind::BridgeKilledAtPoint
            | Kind::ActivatorKilledAtPoint
            | Kind::WorkerKilledAtPoint
            | Kind::ProviderMisbehaves => {}
            Kind::RabbitMqKilled | Kind::RabbitMqRestarted => tell(&format!(" ({})", self.broker(plan).node())),
            _ => tell(""),
        }
        match plan.kind {
            Kind::ProgramKilled => {
                let program = self.program(target)?;
                program.kill()?;
                hold();
                program.start(workplace)
            }
            Kind::BridgeKilledAtPoint => self.kill_at_points(plan, self.program(target)?, &BRIDGE_POINTS),
            Kind::ActivatorKilledAtPoint => self.kill_at_points(plan, self.program(target)?, &ACTIVATOR_POINTS),
            Kind::WorkerKilledAtPoint => {
                let point = WORKER_POINTS[plan.choice % WORKER_POINTS.len()];
                self.kill_at_points(plan, self.program(target)?, &[point])
            }
            Kind::ProgramFrozen => {
                let program = self.program(target)?;
                program.signal(Signal::STOP)?;
                hold();
                program.signal(Signal::CONT)
            }
            Kind::ProgramRestarted => {
                let program = self.program(target)?;
                program.stop()?;
                program.start(workplace)
            }
            Kind::PostgresKilled | Kind::PostgresRestarted | Kind::RabbitMqKilled | Kind::RabbitMqRestarted => {
                self.hit_server(plan)
            }
            Kind::ConnectionCut | Kind::ConnectionDelayed | Kind::AnswersLost => {
                let relays = &self.program(target)?.relays;
                let (_, relay) = &relays[plan.choice % relays.len()];
                disturb(plan, relay);
                hold();
                // No network loses words in the middle of a connection that lasts.
                relay.cut();
                relay.mend();
                Ok(())
            }
            Kind::ChannelPaused => self.pause(CHANNELS[index].name, plan.hold),
            Kind::ProviderMisbehaves => {
                let channel = Providers::channels().nth(index).context("a channel with a provider")?;
                tell(&format!(" {}", self.providers.trouble(channel, plan.choice)?));
                hold();
                self.providers.calm(channel)
            }
        }
    }

    /// Kills or stops a server, and starts it again.
    fn hit_server(&self, plan: &Plan) -> Result<()> {
        let (workplace, postgres, broker) =
            (&self.installation.workplace, &self.installation.postgres, self.broker(plan));
        match plan.kind {
            Kind::PostgresKilled => postgres.kill()?,
            Kind::PostgresRestarted => postgres.stop(),
            Kind::RabbitMqKilled => broker.kill(),
            _ => broker.stop(),
        }
        self.ending.pause(plan.hold);
        match plan.kind {
            Kind::PostgresKilled | Kind::PostgresRestarted => postgres.run(workplace),
            _ => broker.run(workplace),
        }
    }

    /// The node that a fault of RabbitMQ hits.
    fn broker(&self, plan: &Plan) -> &RabbitMq {
        &self.installation.brokers[plan.choice % self.installation.brokers.len()]
    }

    /// Starts it anew so that it dies in the middle of its work, waits for that, and in the end starts it as usual.
    fn kill_at_points(&self, plan: &Plan, program: &Program, points: &[&str]) -> Result<()> {
        program.stop()?;
        for point in points {
            (self.say)(&format!("{}: {} at {point}", plan.kind.name(), program.label));
            program.start_failing(&self.installation.workplace, &format!("{point}=kill@{}", 1 + plan.choice % 5))?;
            let end = Instant::now() + Duration::from_secs(12);
            // A point that it does not come to in time, as nothing is to be done there, is no harm.
            while !program.has_died()? && Instant::now() < end && !self.ending.is_raised() {
                thread::sleep(Duration::from_millis(20));
            }
            program.kill()?;
        }
        program.start(&self.installation.workplace)
    }

    fn pause(&self, channel: &str, hold: Duration) -> Result<()> {
        // Postgres may be away.
        let insist = |arguments: &[&str]| {
            let end = Instant::now() + RECOVERY_LIMIT;
            while let Err(error) = self.installation.operate(arguments) {
                if Instant::now() > end {
                    return Err(error);
                }
                thread::sleep(Duration::from_millis(500));
            }
            Ok(())
        };
        insist(&["pause", channel, "--by", "chaos"])?;
        self.ending.pause(hold);
        insist(&["resume", channel])
    }

    fn program(&self, label: &str) -> Result<&Program> {
        self.installation.programs.iter().find(|program| program.label == label).context("a program of that name")
    }

    /// How long it takes until all that were hit are ready, counted from when nothing else disturbed them any more.
    fn recovery(&self, kind: Kind, target: &str) -> Option<Duration> {
        let is_hit = |program: &&Program| match kind {
            Kind::PostgresKilled | Kind::PostgresRestarted | Kind::RabbitMqKilled | Kind::RabbitMqRestarted => true,
            Kind::ChannelPaused => program.serves(target),
            Kind::ProviderMisbehaves => false,
            _ => program.label == target,
        };
        let mut longest = None;
        let mut waiting: Vec<_> =
            self.installation.programs.iter().filter(is_hit).map(|p| (p, Instant::now())).collect();
        while !waiting.is_empty() {
            waiting.retain_mut(|(program, since)| {
                if self.is_disturbed(program, target) {
                    *since = Instant::now();
                } else if program.is_ready() {
                    longest = longest.max(Some(since.elapsed()));
                    return false;
                } else if since.elapsed() > RECOVERY_LIMIT {
                    self.find_not_recovered(kind, target, program);
                    return false;
                }
                true
            });
            thread::sleep(Duration::from_millis(50));
        }
        longest
    }

    fn find_not_recovered(&self, kind: Kind, target: &str, program: &Program) {
        let why = program.not_ready().or_else(|| program.ended().map(|status| status.to_string()));
        locked(&self.problems).push(format!(
            "{} is not ready {} s after {} ({target}): {}; its log is {}",
            program.label,
            RECOVERY_LIMIT.as_secs(),
            kind.name(),
            why.unwrap_or_default(),
            program.log().display()
        ));
    }

    /// Whether another fault that is not mended keeps a program from being ready.
    fn is_disturbed(&self, program: &Program, own: &str) -> bool {
        let busy = locked(&self.busy);
        let hits = |target: &str| {
            target == program.label || ["Postgres", "RabbitMQ"].contains(&target) || program.serves(target)
        };
        busy.iter().any(|(target, active)| *active && target != own && hits(target))
    }
}

fn disturb(plan: &Plan, relay: &Relay) {
    match plan.kind {
        Kind::ConnectionCut => relay.cut(),
        Kind::AnswersLost => relay.swallow_answers(true),
        _ => relay.delay(Duration::from_millis(50 + plan.choice as u64 % 400)),
    }
}
