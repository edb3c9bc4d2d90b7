use serde::Deserialize;

use super::screen::Table;

/// Which part of a list.
#[derive(clap::Args)]
pub(crate) struct Page {
    /// Only what is older than this number, as the page before says it at its end
    #[arg(long, value_name = "ID")]
    before: Option<i64>,
    /// At most so many, 1 to 200; 50 unless given
    #[arg(long)]
    limit: Option<u32>,
}

impl Page {
    pub(super) fn before(&self) -> (&'static str, Option<String>) {
        ("before", self.before.map(|id| id.to_string()))
    }

    pub(super) fn limit(&self) -> (&'static str, Option<String>) {
        ("limit", self.limit.map(|limit| limit.to_string()))
    }
}

/// A page of a list, the newest first.
#[derive(Deserialize)]
pub(super) struct List<T> {
    pub(super) items: Vec<T>,
    /// What the page behind it has before it.
    pub(super) next: Option<i64>,
}

/// A table and how to go on; the words, where it is empty.
pub(super) fn next(table: &Table, next: Option<i64>, nothing: &str) -> String {
    if table.is_empty() {
        return format!("{nothing}\n");
    }
    let next = next.map_or_else(String::new, |id| format!("there may be more: --before {id}\n"));
    table.text(0) + &next
}
