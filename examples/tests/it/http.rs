//! A small HTTP/1.1 client that can stop in the middle of a request: one connection a request, nothing done behind the test's back.

use std::io;
use std::time::Duration;

use registry_core::Digest;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long any answer may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// Who to ask.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    address: String,
}

/// A request whose body is still being sent.
pub(crate) struct Started {
    stream: TcpStream,
    chunked: bool,
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// The header's value; empty if it is not there.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map_or("", |(_, value)| value)
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// # Panics
    ///
    /// If the answer has another status.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.text());
        self
    }

    /// How many bytes an upload has, from `Range: 0-<last>`. None of the tests leaves an upload at a single byte, which reads as none.
    pub(crate) fn offset(&self) -> u64 {
        let last: u64 = self.header("range").strip_prefix("0-").unwrap().parse().unwrap();
        if last == 0 { 0 } else { last + 1 }
    }
}

impl Client {
    pub(crate) fn new(address: &str) -> Self {
        Self { address: address.to_owned() }
    }

    /// Sends the head of a request. `length`: `None` for a chunked body.
    pub(crate) async fn begin(&self, method: &str, path: &str, headers: &[(&str, &str)], length: Option<u64>) -> io::Result<Started> {
        let mut stream = TcpStream::connect(&self.address).await?;
        stream.set_nodelay(true)?;
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n", self.address);
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        match length {
            Some(length) => head.push_str(&format!("Content-Length: {length}\r\n\r\n")),
            None => head.push_str("Transfer-Encoding: chunked\r\n\r\n"),
        }
        stream.write_all(head.as_bytes()).await?;
        Ok(Started { stream, chunked: length.is_none() })
    }

    /// A whole exchange.
    pub(crate) async fn try_send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> io::Result<Answer> {
        let mut started = self.begin(method, path, headers, Some(body.len() as u64)).await?;
        started.write(body).await?;
        started.finish(method).await
    }

    /// The same, for tests in which the server must answer.
    pub(crate) async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        self.try_send(method, path, headers, body).await.unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], b"").await
    }
}

impl Started {
    /// Sends a part of the body. A server that has answered already and closed is no error here; its answer is read by [`finish`](Self::finish).
    pub(crate) async fn write(&mut self, part: &[u8]) -> io::Result<()> {
        if part.is_empty() {
            return Ok(());
        }
        if self.chunked {
            self.pass(format!("{:x}\r\n", part.len()).as_bytes()).await?;
        }
        self.pass(part).await?;
        if self.chunked { self.pass(b"\r\n").await } else { Ok(()) }
    }

    async fn pass(&mut self, bytes: &[u8]) -> io::Result<()> {
        match timeout(PATIENCE, self.stream.write_all(bytes)).await? {
            Err(error) if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) => Ok(()),
            other => other,
        }
    }

    /// Ends the body and reads the answer.
    pub(crate) async fn finish(mut self, method: &str) -> io::Result<Answer> {
        if self.chunked {
            self.pass(b"0\r\n\r\n").await?;
        }
        let mut bytes = Vec::new();
        match timeout(PATIENCE, self.stream.read_to_end(&mut bytes)).await? {
            // Reset after the answer, because not all of the body was taken in.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset && !bytes.is_empty() => {}
            other => drop(other?),
        }
        parse(method, &bytes)
    }
}

fn parse(method: &str, bytes: &[u8]) -> io::Result<Answer> {
    let bad = |what: &str| {
        io::Error::new(io::ErrorKind::UnexpectedEof, format!("{what} in {:?}", String::from_utf8_lossy(&bytes[..bytes.len().min(300)])))
    };
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").ok_or_else(|| bad("no end of the head"))?;
    let head = std::str::from_utf8(&bytes[..end]).map_err(|_| bad("no text"))?;
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).ok_or_else(|| bad("no status"))?;
    if status == 100 {
        return parse(method, &bytes[end + 4..]);
    }
    let headers: Vec<_> =
        lines.filter_map(|line| line.split_once(':')).map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect();
    let mut answer = Answer { status, headers, body: bytes[end + 4..].to_vec() };
    if answer.header("transfer-encoding") == "chunked" {
        answer.body = unchunk(&answer.body).ok_or_else(|| bad("a body that broke off"))?;
    } else if method != "HEAD"
        && !answer.header("content-length").is_empty()
        && answer.header("content-length") != answer.body.len().to_string()
    {
        return Err(bad("a body that broke off"));
    }
    Ok(answer)
}

fn unchunk(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|window| window == b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..end]).ok()?, 16).ok()?;
        rest = &rest[end + 2..];
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(rest.get(..size)?);
        rest = rest.get(size + 2..)?;
    }
}

/// Pushes as Docker and containerd do: ask, begin, one PATCH of unknown length, PUT.
pub(crate) async fn push_blob(client: &Client, repository: &str, content: &[u8]) -> io::Result<Digest> {
    let digest = Digest::sha256(content);
    if client.try_send("HEAD", &format!("/v2/{repository}/blobs/{digest}"), &[], b"").await?.status == 200 {
        return Ok(digest);
    }
    let location = begin_upload(client, repository).await?;
    let mut patch = client.begin("PATCH", &location, &[("Content-Type", "application/octet-stream")], None).await?;
    for part in content.chunks(32 << 10) {
        patch.write(part).await?;
    }
    let location = wanted(patch.finish("PATCH").await?, 202)?.header("location").to_owned();
    wanted(client.try_send("PUT", &format!("{location}?digest={digest}"), &[], b"").await?, 201)?;
    Ok(digest)
}

/// Begins an upload; where to continue it.
pub(crate) async fn begin_upload(client: &Client, repository: &str) -> io::Result<String> {
    let answer = client.try_send("POST", &format!("/v2/{repository}/blobs/uploads/"), &[], b"").await?;
    Ok(wanted(answer, 202)?.header("location").to_owned())
}

/// Pushes a manifest by tag.
pub(crate) async fn push_manifest(client: &Client, repository: &str, tag: &str, manifest: &[u8]) -> io::Result<Digest> {
    let headers = [("Content-Type", "application/vnd.oci.image.manifest.v1+json")];
    wanted(client.try_send("PUT", &format!("/v2/{repository}/manifests/{tag}"), &headers, manifest).await?, 201)?;
    Ok(Digest::sha256(manifest))
}

fn wanted(answer: Answer, status: u16) -> io::Result<Answer> {
    if answer.status == status { Ok(answer) } else { Err(io::Error::other(format!("{}: {}", answer.status, answer.text()))) }
}
