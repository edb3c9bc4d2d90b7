use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use super::{
    client::Client,
    screen::{Table, lines, print, time},
};
use crate::Problem;

#[derive(clap::Args)]
#[command(after_help = "Example: tocsin leases\n\n\
    Who holds `scheduler` starts what schedules say. A lease that its holder does not renew runs out, and another takes it.")]
pub(crate) struct Leases {
    /// Print the API's own objects, one a line
    #[arg(long)]
    json: bool,
}

/// A duty that one process at a time has.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Lease {
    lease: String,
    holder: String,
    is_held: bool,
    since: String,
    expires_at: String,
    fence: i64,
}

impl Lease {
    /// One a row.
    pub(super) fn table(leases: &[Self], now: Option<Timestamp>) -> Table {
        let mut table = Table::new(&["LEASE", "IS HELD", "SINCE", "UNTIL", "FENCE", "BY"]);
        for one in leases {
            table.row([
                one.lease.as_str().into(),
                if one.is_held { "yes" } else { "no" }.into(),
                time(&one.since, now).into(),
                time(&one.expires_at, now).into(),
                one.fence.into(),
                one.holder.as_str().into(),
            ]);
        }
        table
    }
}

pub(crate) async fn list(leases: &Leases, client: &Client) -> Result<(), Problem> {
    let answer = client.get(&["leases"], &[]).await?;
    if leases.json {
        print(&lines(&answer.read::<Vec<Value>>()?));
        return Ok(());
    }
    let table = Lease::table(&answer.read::<Vec<Lease>>()?, answer.now);
    print(&if table.is_empty() { "nobody has ever held a lease\n".to_owned() } else { table.text(0) });
    Ok(())
}
