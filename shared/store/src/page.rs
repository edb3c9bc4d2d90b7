/// A part of a list whose newest row comes first.
#[derive(Debug, Clone, Copy)]
pub struct Page {
    /// Only what is older than the row of this number.
    pub before: Option<i64>,
    /// At most so many rows.
    pub limit: i64,
}
