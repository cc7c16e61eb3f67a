//! [`Proxy`]: stands before a service, sees every request, and lets through what it is told to. For the tests of each crate that speaks HTTP to one.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Barrier, Semaphore};
use tokio::task::{JoinHandle, JoinSet};

/// A request that came by.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// Which one it was since the last plan was made, counted from 1.
    pub(crate) number: usize,
    pub(crate) method: String,
    /// Path and query.
    pub(crate) target: String,
    pub(crate) at: Instant,
    head: String,
}

impl Seen {
    /// A header's value; empty if it has none of that name.
    pub(crate) fn header(&self, name: &str) -> &str {
        header(&self.head, name).unwrap_or_default()
    }
}

/// A place in a message, counted in bytes from its begin.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum At {
    Byte(usize),
    MiddleOfHead,
    EndOfHead(isize),
    MiddleOfBody,
    End(isize),
}

impl At {
    /// Some of all the places there are.
    pub(crate) const EVERYWHERE: [Self; 9] = [
        Self::Byte(0),
        Self::Byte(1),
        Self::MiddleOfHead,
        Self::EndOfHead(-1),
        Self::EndOfHead(0),
        Self::EndOfHead(1),
        Self::MiddleOfBody,
        Self::End(-1),
        Self::End(0),
    ];

    fn of(self, head: usize, body: usize) -> usize {
        let place = match self {
            Self::Byte(n) => n,
            Self::MiddleOfHead => head / 2,
            Self::EndOfHead(n) => head.saturating_add_signed(n),
            Self::MiddleOfBody => head + body / 2,
            Self::End(n) => (head + body).saturating_add_signed(n),
        };
        place.min(head + body)
    }
}

/// What becomes of a request.
#[derive(Clone)]
pub(crate) enum Fault {
    /// It goes through, and so does its answer.
    None,
    /// The connection is cut at this place of the request.
    CutRequest(At),
    /// The service does it, and the connection is cut at this place of the answer.
    CutAnswer(At),
    /// A bit of the request's body is another on its way.
    FlipBit,
    /// Nothing of the request is taken in any more from there on.
    StallRequest(At),
    /// Nothing of the answer comes any more from there on.
    StallAnswer(At),
    /// About so many bytes in a twentieth of a second, there and back.
    Slow(usize),
    /// Status and headers, and a body, that the service has never seen.
    Answer(&'static str, &'static str),
    /// The same, when so many are waiting for it.
    AnswerTogether(Arc<Barrier>, &'static str),
    /// The service does it; then, instead of the answer, this is called.
    Instead(Arc<dyn Fn() + Send + Sync>),
}

/// Cuts of a request, and of an answer that has no body. In front whether nobody can do without the rest of the message.
pub(crate) fn cuts() -> Vec<(bool, Fault)> {
    let there = At::EVERYWHERE.map(|at| (true, Fault::CutRequest(at)));
    let back = [At::Byte(0), At::Byte(1), At::MiddleOfHead, At::EndOfHead(-1)].map(|at| (true, Fault::CutAnswer(at)));
    there.into_iter().chain(back).chain([(false, Fault::CutAnswer(At::EndOfHead(0)))]).collect()
}

/// The same, and cuts of the answer's body.
pub(crate) fn cuts_in_a_body() -> Vec<(bool, Fault)> {
    let back = [At::EndOfHead(1), At::MiddleOfBody, At::End(-1), At::End(0)].map(|at| (false, Fault::CutAnswer(at)));
    cuts().into_iter().chain(back).collect()
}

type Plan = Arc<dyn Fn(&Seen) -> Fault + Send + Sync>;

/// The fault for the first so many of the requests that are meant.
pub(crate) fn first(
    times: usize,
    meant: impl Fn(&Seen) -> bool + Send + Sync + 'static,
    fault: Fault,
) -> impl Fn(&Seen) -> Fault + Send + Sync + 'static {
    let left = AtomicUsize::new(times);
    let take = move || left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok();
    move |seen| if meant(seen) && take() { fault.clone() } else { Fault::None }
}

struct Shared {
    target: SocketAddr,
    plan: Mutex<Plan>,
    log: Mutex<Vec<Seen>>,
    /// Each connection has one.
    connections: Arc<Semaphore>,
}

const CONNECTIONS: u32 = 1000;

pub(crate) struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    listening: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

impl Proxy {
    /// Before the service at this URL.
    pub(crate) async fn new(url: &str) -> Self {
        let target = authority(url).parse().expect("an address and a port");
        let plan: Plan = Arc::new(|_| Fault::None);
        let connections = Arc::new(Semaphore::new(CONNECTIONS as usize));
        let shared = Arc::new(Shared { target, plan: Mutex::new(plan), log: Mutex::default(), connections });
        let listener = listen("127.0.0.1:0".parse().unwrap());
        let address = listener.local_addr().unwrap();
        Self { address, listening: tokio::spawn(accept(listener, Arc::clone(&shared))), shared }
    }

    /// Its own host and port.
    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    /// The URL with this proxy's address in it.
    pub(crate) fn instead_of(&self, url: &str) -> String {
        url.replacen(authority(url), &self.address.to_string(), 1)
    }

    /// From now on this becomes of requests. Counts anew.
    pub(crate) fn plan(&self, plan: impl Fn(&Seen) -> Fault + Send + Sync + 'static) {
        let mut log = self.shared.log.lock().unwrap();
        *self.shared.plan.lock().unwrap() = Arc::new(plan);
        log.clear();
    }

    /// The requests since the plan was made.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.shared.log.lock().unwrap().clone()
    }

    /// Cuts all connections, and takes no more.
    pub(crate) async fn down(&mut self) {
        self.listening.abort();
        drop((&mut self.listening).await);
    }

    pub(crate) fn up(&mut self) {
        self.listening = tokio::spawn(accept(listen(self.address), Arc::clone(&self.shared)));
    }

    /// Waits until all connections have ended, and nothing that was sent is under way any more. Its client has to be gone by then.
    pub(crate) async fn quiet(&self) {
        drop(self.shared.connections.acquire_many(CONNECTIONS).await.unwrap());
    }
}

fn authority(url: &str) -> &str {
    url.split('/').nth(2).expect("a URL")
}

fn listen(address: SocketAddr) -> TcpListener {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    // Little is on its way between a client and the proxy: who is not read from, notices.
    socket.set_recv_buffer_size(64 << 10).unwrap();
    socket.bind(address).unwrap();
    socket.listen(256).unwrap()
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((client, _)) = listener.accept().await else { continue };
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            let _one = Arc::clone(&shared.connections).acquire_owned().await;
            // However it ends, it is cut.
            drop(serve(client, &shared).await);
        });
        while connections.try_join_next().is_some() {}
    }
}

/// One side's connection.
struct Side {
    stream: TcpStream,
    ahead: Vec<u8>,
}

impl Side {
    fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self { stream, ahead: Vec::new() })
    }

    /// Some bytes, at least one.
    async fn some(&mut self, most: usize) -> io::Result<Vec<u8>> {
        if self.ahead.is_empty() {
            self.ahead.reserve(64 << 10);
            self.stream.read_buf(&mut self.ahead).await?;
        }
        if self.ahead.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(self.ahead.drain(..most.min(self.ahead.len())).collect())
    }

    /// Answers a request whose body of so many bytes is yet to be read.
    async fn answer(&mut self, mut unread: usize, head: &str, body: &str) -> io::Result<()> {
        while unread > 0 {
            unread -= self.some(unread).await?.len();
        }
        let answer = format!("HTTP/1.1 {head}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        self.stream.write_all(answer.as_bytes()).await
    }

    async fn head(&mut self) -> io::Result<Head> {
        loop {
            if let Some(end) = self.ahead.windows(4).position(|four| four == b"\r\n\r\n") {
                return Ok(Head { text: String::from_utf8_lossy(&self.ahead.drain(..end + 4).collect::<Vec<_>>()).into_owned() });
            }
            if self.stream.read_buf(&mut self.ahead).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

struct Head {
    text: String,
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut headers = head.lines().filter_map(|line| line.split_once(':'));
    headers.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

impl Head {
    fn word(&self, n: usize) -> &str {
        self.text.split_whitespace().nth(n).unwrap_or_default()
    }

    fn header(&self, name: &str) -> Option<&str> {
        header(&self.text, name)
    }

    fn length(&self) -> usize {
        self.header("Content-Length").map_or(0, |length| length.parse().unwrap())
    }
}

/// Where a message ends on its way, and how fast it is.
struct Valve {
    left: usize,
    stalls: bool,
    step: usize,
    since_pause: usize,
}

const PAUSE: Duration = Duration::from_millis(50);

impl Valve {
    const OPEN: Self = Self { left: usize::MAX, stalls: false, step: usize::MAX, since_pause: 0 };

    fn until(left: usize, stalls: bool) -> Self {
        Self { left, stalls, ..Self::OPEN }
    }

    async fn pass(&mut self, bytes: &[u8], to: &mut Side) -> io::Result<()> {
        let bytes = &bytes[..bytes.len().min(self.left)];
        to.stream.write_all(bytes).await?;
        self.left -= bytes.len();
        self.since_pause += bytes.len();
        if self.since_pause >= self.step {
            self.since_pause = 0;
            tokio::time::sleep(PAUSE).await;
        }
        match (self.left, self.stalls) {
            (0, false) => Err(io::ErrorKind::ConnectionAborted.into()),
            (0, true) => std::future::pending().await,
            _ => Ok(()),
        }
    }

    /// A body of so many bytes.
    async fn pass_body(&mut self, length: usize, from: &mut Side, to: &mut Side) -> io::Result<()> {
        let mut passed = 0;
        while passed < length {
            let some = from.some(length - passed).await?;
            passed += some.len();
            self.pass(&some, to).await?;
        }
        Ok(())
    }

    /// A body in chunks, which ends with an empty one.
    async fn pass_chunks(&mut self, from: &mut Side, to: &mut Side) -> io::Result<()> {
        let mut all = b"\r\n".to_vec();
        while !all.ends_with(b"\r\n0\r\n\r\n") {
            let some = from.some(usize::MAX).await?;
            all.extend_from_slice(&some);
            self.pass(&some, to).await?;
        }
        Ok(())
    }
}

/// One request after the other, until one side closes or the plan says so.
async fn serve(client: TcpStream, shared: &Shared) -> io::Result<()> {
    let mut client = Side::new(client)?;
    let mut service = Side::new(TcpStream::connect(shared.target).await?)?;
    loop {
        let request = client.head().await?;
        let (fault, length) = (shared.fault(&request), request.length());
        let mut valve = match &fault {
            Fault::CutRequest(at) => Valve::until(at.of(request.text.len(), length), false),
            Fault::StallRequest(at) => Valve::until(at.of(request.text.len(), length), true),
            Fault::Slow(step) => Valve { step: *step, ..Valve::OPEN },
            Fault::Answer(head, body) => {
                client.answer(length, head, body).await?;
                continue;
            }
            Fault::AnswerTogether(all, head) => {
                all.wait().await;
                client.answer(length, head, "").await?;
                continue;
            }
            _ => Valve::OPEN,
        };
        valve.pass(request.text.as_bytes(), &mut service).await?;
        let mut length = length;
        if matches!(fault, Fault::FlipBit) && length > 0 {
            let byte = client.some(1).await?[0];
            valve.pass(&[byte ^ 1], &mut service).await?;
            length -= 1;
        }
        valve.pass_body(length, &mut client, &mut service).await?;

        let answer = service.head().await?;
        let has_body = request.word(0) != "HEAD" && !["204", "304"].contains(&answer.word(1));
        let length = if has_body { answer.length() } else { 0 };
        let mut valve = match &fault {
            Fault::CutAnswer(at) => Valve::until(at.of(answer.text.len(), length), false),
            Fault::StallAnswer(at) => Valve::until(at.of(answer.text.len(), length), true),
            Fault::Slow(step) => Valve { step: *step, ..Valve::OPEN },
            Fault::Instead(call) => {
                call();
                return Ok(());
            }
            _ => Valve::OPEN,
        };
        valve.pass(answer.text.as_bytes(), &mut client).await?;
        if has_body && answer.header("Transfer-Encoding").is_some() {
            valve.pass_chunks(&mut service, &mut client).await?;
        } else {
            valve.pass_body(length, &mut service, &mut client).await?;
        }
        if answer.header("Connection").is_some_and(|value| value.eq_ignore_ascii_case("close")) {
            return Ok(());
        }
    }
}

impl Shared {
    fn fault(&self, request: &Head) -> Fault {
        let mut log = self.log.lock().unwrap();
        let seen = Seen {
            number: log.len() + 1,
            method: request.word(0).to_owned(),
            target: request.word(1).to_owned(),
            at: Instant::now(),
            head: request.text.clone(),
        };
        log.push(seen.clone());
        let plan = Arc::clone(&self.plan.lock().unwrap());
        drop(log);
        plan(&seen)
    }
}
