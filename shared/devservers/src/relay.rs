use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

/// Stands between a program and a server, and passes on what each says to the other, until it is told otherwise.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    swallows_answers: AtomicBool,
    refuses: AtomicBool,
    delay_ms: AtomicU64,
    /// Both ends of each connection.
    open: Mutex<Vec<TcpStream>>,
}

impl Relay {
    /// Passes on to the server at this `host:port`.
    pub fn to(server: &str) -> Self {
        Self::to_any(&[server.to_owned()])
    }

    /// Passes each connection on to one of these servers, in turn, leaving out those that are down.
    pub fn to_any(servers: &[String]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a bound listener has an address");
        let state = Arc::new(State::default());
        let (mut servers, shared) = (servers.to_owned(), Arc::clone(&state));
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if shared.refuses.load(Ordering::Relaxed) {
                    continue;
                }
                servers.rotate_left(1);
                if let Some(server) = servers.iter().find_map(|server| TcpStream::connect(server).ok()) {
                    shared.connect(client, server);
                }
            }
        });
        Self { address, state }
    }

    /// `host:port` of the relay itself.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// From now on the server's words are lost on their way, while the program's arrive, or no longer.
    pub fn swallow_answers(&self, swallow: bool) {
        self.state.swallows_answers.store(swallow, Ordering::Relaxed);
    }

    /// From now on every word takes so long.
    pub fn delay(&self, delay: Duration) {
        let millis = u64::try_from(delay.as_millis()).expect("a delay of less than a million years");
        self.state.delay_ms.store(millis, Ordering::Relaxed);
    }

    /// Breaks every connection, and makes no new one until it is mended.
    pub fn cut(&self) {
        self.state.refuses.store(true, Ordering::Relaxed);
        for stream in self.state.open.lock().expect("nobody panics while holding this lock").drain(..) {
            // One that is closed already is as good as cut.
            stream.shutdown(Shutdown::Both).unwrap_or_default();
        }
    }

    /// Makes connections again, and passes everything on at once.
    pub fn mend(&self) {
        self.swallow_answers(false);
        self.delay(Duration::ZERO);
        self.state.refuses.store(false, Ordering::Relaxed);
    }
}

impl State {
    fn connect(self: &Arc<Self>, client: TcpStream, server: TcpStream) {
        let copy = |stream: &TcpStream| stream.try_clone().expect("a socket can be shared");
        for stream in [&client, &server] {
            // Words are passed on as they come, not collected. A stream that is broken already has no option to set.
            stream.set_nodelay(true).unwrap_or_default();
        }
        let mut open = self.open.lock().expect("nobody panics while holding this lock");
        // Those that have been shut down meanwhile have no peer any more.
        open.retain(|stream| stream.peer_addr().is_ok());
        open.extend([copy(&client), copy(&server)]);
        drop(open);
        for (from, to, is_answer) in [(copy(&client), copy(&server), false), (server, client, true)] {
            let state = Arc::clone(self);
            thread::spawn(move || state.pass_on(from, to, is_answer));
        }
    }

    fn pass_on(&self, mut from: TcpStream, mut to: TcpStream, is_answer: bool) {
        let mut words = vec![0; 64 * 1024];
        while let Ok(length @ 1..) = from.read(&mut words) {
            thread::sleep(Duration::from_millis(self.delay_ms.load(Ordering::Relaxed)));
            let lost = is_answer && self.swallows_answers.load(Ordering::Relaxed);
            if !lost && to.write_all(&words[..length]).is_err() {
                break;
            }
        }
        to.shutdown(Shutdown::Both).unwrap_or_default();
    }
}
