use std::time::Duration;

use anyhow::Result;
use serde_json::json;

use super::Bench;
use crate::{
    contender::Contender,
    figures::show,
    report::{Section, Table},
    stage::{micros_now, stop, wait_for},
    tocsin::{DATABASE, Tocsin},
};

const SCHEDULES: u64 = 100_000;
const FEW_SCHEDULES: u64 = 5_000;

/// Many schedules that are due in the same minute: until the processes of all of them have begun.
pub(crate) fn measure(bench: &Bench) -> Result<Section> {
    let (stage, tocsin) = (bench.stage, Tocsin::default());
    let count = if bench.quick { FEW_SCHEDULES } else { SCHEDULES };
    tocsin.prepare(stage)?;
    let mut seconds = Vec::new();
    for round in 1..=bench.rounds {
        bench.progress.say(&format!("round {round} of {}", bench.rounds));
        tocsin.reset(stage)?;
        let due = micros_now() / 1_000_000 + 5 + count / 10_000;
        tocsin.add_schedules(stage, count, due)?;
        let activator = tocsin.start_program(stage, "activator", 1)?;
        wait_for("every process to begin", Duration::from_secs(300), || {
            Ok(stage.number(DATABASE, "SELECT count(*) FROM request WHERE outcome = 'accepted'")? == count)
        })?;
        let last =
            stage.number(DATABASE, "SELECT (extract(epoch FROM max(received_at)) * 1e6)::bigint FROM request")?;
        seconds.push((last - due * 1_000_000) as f64 / 1e6);
        stop(activator)?;
    }
    let mut table = Table::new("", &["schedules", "s until the last has begun", "a second"]);
    table.row([count.to_string(), show(seconds.clone(), 1), show(seconds.iter().map(|s| count as f64 / s), 0)]);
    Ok(Section {
        name: "schedules",
        how: format!("{count} schedules in the time zone Europe/Zagreb, each with a template, due at the same second."),
        tables: vec![table],
        plots: Vec::new(),
        data: json!({"schedules": count, "seconds": seconds}),
    })
}
