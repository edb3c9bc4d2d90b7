use std::{
    ops::{Deref, DerefMut},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use sqlx::{PgConnection, PgPool, Postgres, pool::PoolConnection, postgres::PgConnectOptions};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

/// How long to wait for one.
pub(crate) const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long one goes from statement to statement before the pool has it back.
const KEPT: Duration = Duration::from_secs(1);

/// Connections that go from one statement straight to the next.
///
/// sqlx's pool, whose they are, sends an empty message and waits for its answer whenever it gets one back (`return_to_pool` in
/// sqlx-core's pool/connection.rs): a second round trip for each statement. So it has each back once a second, and then looks
/// after its age as well.
#[derive(Debug)]
pub(crate) struct Connections {
    pool: PgPool,
    /// One for each of the pool's connections: whoever has one and finds nothing kept gets one from the pool.
    permits: Arc<Semaphore>,
    kept: Mutex<Vec<Taken>>,
}

/// From the pool, since when.
#[derive(Debug)]
struct Taken {
    connection: PoolConnection<Postgres>,
    since: Instant,
}

impl Connections {
    /// All of a pool's connections are to be taken here, as nobody who waits at the pool hears of what is kept here.
    pub(crate) fn of(pool: PgPool) -> Self {
        let permits = usize::try_from(pool.options().get_max_connections()).unwrap_or(usize::MAX);
        Self { pool, permits: Arc::new(Semaphore::new(permits)), kept: Mutex::default() }
    }

    /// One to run statements on.
    pub(crate) async fn lend(self: &Arc<Self>) -> sqlx::Result<Lent> {
        let permit = self.permit().await?;
        let taken = match self.kept() {
            Some(taken) => taken,
            None => Taken { connection: self.pool.acquire().await?, since: Instant::now() },
        };
        Ok(Lent { taken: Some(taken), home: Arc::clone(self), _permit: permit })
    }

    /// The pool, to take one connection from it for as long as the permit is held.
    pub(crate) async fn pool(&self) -> sqlx::Result<(&PgPool, OwnedSemaphorePermit)> {
        let permit = self.permit().await?;
        self.keep_only(|_| false);
        Ok((&self.pool, permit))
    }

    /// How they are made.
    pub(crate) fn options(&self) -> Arc<PgConnectOptions> {
        self.pool.connect_options()
    }

    /// Closes all in good order.
    pub(crate) async fn close(&self) {
        self.permits.close();
        self.keep_only(|_| false);
        self.pool.close().await;
    }

    async fn permit(&self) -> sqlx::Result<OwnedSemaphorePermit> {
        let permit = timeout(ACQUIRE_TIMEOUT, Arc::clone(&self.permits).acquire_owned());
        permit.await.map_err(|_| sqlx::Error::PoolTimedOut)?.map_err(|_| sqlx::Error::PoolClosed)
    }

    fn kept(&self) -> Option<Taken> {
        self.keep_only(|taken| taken.since.elapsed() < KEPT);
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    /// The pool has the others back.
    fn keep_only(&self, is_kept: impl Fn(&Taken) -> bool) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extract_if(.., |taken| !is_kept(taken)).for_each(Taken::return_to_pool);
    }

    fn give_back(&self, taken: Taken) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.since.elapsed() < KEPT && !self.permits.is_closed() {
            kept.push(taken);
        } else {
            taken.return_to_pool();
        }
    }
}

impl Taken {
    /// As dropping it does, but that an answer which never comes does not keep a place in the pool for ever.
    fn return_to_pool(mut self) {
        tokio::spawn(timeout(ACQUIRE_TIMEOUT, self.connection.return_to_pool()));
    }
}

/// A connection that is being used. If it is dropped instead of given back, after an error, a time limit or a
/// cancelled task, it is closed: whatever was under way on it, such as a transaction, ends with it, and nobody finds
/// it half-used.
pub(crate) struct Lent {
    taken: Option<Taken>,
    home: Arc<Connections>,
    _permit: OwnedSemaphorePermit,
}

impl Lent {
    pub(crate) fn give_back(mut self) {
        if let Some(taken) = self.taken.take() {
            self.home.give_back(taken);
        }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        drop(self.taken.take().map(|taken| taken.connection.detach()));
    }
}

impl Deref for Lent {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.taken.as_ref().expect("only its end takes the connection").connection
    }
}

impl DerefMut for Lent {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.taken.as_mut().expect("only its end takes the connection").connection
    }
}
