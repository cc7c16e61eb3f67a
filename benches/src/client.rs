//! One kept-alive HTTP/1.1 connection: just enough of the protocol to load a registry with little CPU time.

use std::io::IoSlice;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::content::Content;
use crate::measure::Result;

/// As large as a socket buffer is useful: what is read at once.
const BUFFER: usize = 256 << 10;

/// What a request carries.
#[derive(Clone, Copy, Debug)]
pub enum Body<'a> {
    /// No body, and no header that speaks of one: GET, HEAD.
    None,
    /// These bytes, with their length announced.
    Bytes(&'a [u8]),
    /// The content with this number, with its length announced.
    Whole(&'a Content, u64),
    /// The content with this number in chunks of 256 KiB, the length unknown to the server: how Docker and skopeo push.
    Stream(&'a Content, u64),
}

/// The head of a response, as far as registries and we care.
#[derive(Debug)]
pub struct Head {
    /// Its status.
    pub status: u16,
    /// Path and query of the `Location`, whether that was relative or absolute.
    pub location: Option<String>,
    length: Length,
}

#[derive(Debug)]
enum Length {
    Bytes(u64),
    Chunked,
}

/// The connection, and what was read from it beyond the last answer.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    buffer: Box<[u8]>,
    /// What was read and not yet used: `buffer[start..end]`.
    start: usize,
    end: usize,
    request: String,
}

impl Connection {
    /// Connects.
    pub async fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: vec![0; BUFFER].into_boxed_slice(), start: 0, end: 0, request: String::with_capacity(1024) })
    }

    /// Sends a request, with `headers` as lines that each end in CRLF, and reads the response's head. The body is to be read next, by one of the methods below.
    pub async fn send(&mut self, method: &str, target: &str, headers: &str, body: Body<'_>) -> Result<Head> {
        use std::fmt::Write;
        self.request.clear();
        write!(self.request, "{method} {target} HTTP/1.1\r\nHost: registry\r\n{headers}")?;
        match body {
            Body::None => self.request.push_str("\r\n"),
            Body::Bytes(bytes) => write!(self.request, "Content-Length: {}\r\n\r\n", bytes.len())?,
            Body::Whole(content, _) => write!(self.request, "Content-Length: {}\r\n\r\n", content.size())?,
            Body::Stream(..) => self.request.push_str("Transfer-Encoding: chunked\r\n\r\n"),
        }
        match body {
            Body::Whole(content, n) if content.size() <= 64 << 10 => {
                // One packet for small ones.
                let mut message = Vec::with_capacity(self.request.len() + content.size() as usize);
                message.extend_from_slice(self.request.as_bytes());
                content.each(n, |piece| message.extend_from_slice(piece));
                self.stream.write_all(&message).await?;
            }
            Body::Bytes(bytes) => write_both(&mut self.stream, self.request.as_bytes(), bytes).await?,
            _ => self.stream.write_all(self.request.as_bytes()).await?,
        }
        match body {
            Body::Whole(content, n) if content.size() > 64 << 10 => {
                let mut pieces = content.pieces(n);
                while let Some(piece) = pieces.next() {
                    self.stream.write_all(piece).await?;
                }
            }
            Body::Stream(content, n) => {
                let mut pieces = content.pieces(n);
                while let Some(piece) = pieces.next() {
                    let size = format!("{:x}\r\n", piece.len());
                    write_both(&mut self.stream, size.as_bytes(), piece).await?;
                    self.stream.write_all(b"\r\n").await?;
                }
                self.stream.write_all(b"0\r\n\r\n").await?;
            }
            _ => {}
        }
        self.head().await
    }

    /// Like [`Self::send`], and the response must have this status; its body is read and dropped.
    pub async fn expect(&mut self, status: u16, method: &str, target: &str, headers: &str, body: Body<'_>) -> Result<Head> {
        let head = self.send(method, target, headers, body).await?;
        if head.status != status {
            let text = self.collect(&head).await?;
            return Err(format!("{method} {target}: {} rather than {status}: {}", head.status, String::from_utf8_lossy(&text)).into());
        }
        if method != "HEAD" {
            self.body(&head, |_| ()).await?;
        }
        Ok(head)
    }

    /// A GET that must be 200. Gives the number of bytes in its body.
    pub async fn get(&mut self, target: &str, headers: &str) -> Result<u64> {
        let head = self.send("GET", target, headers, Body::None).await?;
        if head.status != 200 {
            return Err(format!("GET {target}: {}", head.status).into());
        }
        self.body(&head, |_| ()).await
    }

    /// The body, whole.
    pub async fn collect(&mut self, head: &Head) -> Result<Vec<u8>> {
        let mut all = Vec::new();
        self.body(head, |piece| all.extend_from_slice(piece)).await?;
        Ok(all)
    }

    /// Hands the body to `sink` as it comes. Gives its length in bytes.
    pub async fn body(&mut self, head: &Head, mut sink: impl FnMut(&[u8]) + Send) -> Result<u64> {
        match head.length {
            Length::Bytes(length) => {
                self.exactly(length, &mut sink).await?;
                Ok(length)
            }
            Length::Chunked => {
                let mut total = 0;
                loop {
                    let line = self.line().await?;
                    let size = line.split(';').next().unwrap_or_default().trim();
                    let size = u64::from_str_radix(size, 16).map_err(|_| format!("not a chunk size: {size:?}"))?;
                    self.exactly(size, &mut sink).await?;
                    self.line().await?;
                    if size == 0 {
                        return Ok(total);
                    }
                    total += size;
                }
            }
        }
    }

    async fn exactly(&mut self, length: u64, sink: &mut (impl FnMut(&[u8]) + Send)) -> Result<()> {
        let mut left = length;
        while left > 0 {
            if self.start == self.end {
                self.fill().await?;
            }
            let n = (self.end - self.start).min(usize::try_from(left).unwrap_or(usize::MAX));
            sink(&self.buffer[self.start..self.start + n]);
            self.start += n;
            left -= n as u64;
        }
        Ok(())
    }

    /// A line without its CRLF.
    async fn line(&mut self) -> Result<String> {
        loop {
            let unread = &self.buffer[self.start..self.end];
            if let Some(at) = unread.windows(2).position(|pair| pair == b"\r\n") {
                let line = String::from_utf8_lossy(&unread[..at]).into_owned();
                self.start += at + 2;
                return Ok(line);
            }
            self.fill().await?;
        }
    }

    async fn head(&mut self) -> Result<Head> {
        loop {
            let unread = &self.buffer[self.start..self.end];
            if let Some(at) = unread.windows(4).position(|four| four == b"\r\n\r\n") {
                let head = parse(std::str::from_utf8(&unread[..at])?)?;
                self.start += at + 4;
                // An interim answer is followed by the real one.
                if head.status != 100 {
                    return Ok(head);
                }
                continue;
            }
            self.fill().await?;
        }
    }

    /// Reads more behind what is unread.
    async fn fill(&mut self) -> Result<()> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.end == self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        let n = self.stream.read(&mut self.buffer[self.end..]).await?;
        if n == 0 {
            return Err("the server closed the connection in the middle of a response".into());
        }
        self.end += n;
        Ok(())
    }
}

/// Writes two slices with one system call where the socket has room.
async fn write_both(stream: &mut TcpStream, first: &[u8], second: &[u8]) -> Result<()> {
    let n = stream.write_vectored(&[IoSlice::new(first), IoSlice::new(second)]).await?;
    if n < first.len() {
        stream.write_all(&first[n..]).await?;
        stream.write_all(second).await?;
    } else {
        stream.write_all(&second[n - first.len()..]).await?;
    }
    Ok(())
}

fn parse(head: &str) -> Result<Head> {
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.get(9..12)?.parse().ok()).ok_or_else(|| format!("not an HTTP response: {head:?}"))?;
    let mut parsed = Head { status, location: None, length: Length::Bytes(0) };
    for line in lines {
        let Some((name, value)) = line.split_once(':') else { continue };
        let value = value.trim();
        if name.eq_ignore_ascii_case("content-length") {
            parsed.length = Length::Bytes(value.parse()?);
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            parsed.length = Length::Chunked;
        } else if name.eq_ignore_ascii_case("location") {
            let path = match value.split_once("://") {
                Some((_, rest)) => rest.find('/').map_or("/", |at| &rest[at..]),
                None => value,
            };
            parsed.location = Some(path.to_owned());
        }
    }
    Ok(parsed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_is_reduced_to_path_and_query() {
        for (value, expected) in [("/v2/a?_state=x", "/v2/a?_state=x"), ("http://host:5000/v2/a?b", "/v2/a?b"), ("https://host", "/")] {
            let head = parse(&format!("HTTP/1.1 202 Accepted\r\nlocation: {value}\r\nContent-Length: 0")).unwrap();
            assert_eq!((head.status, head.location.as_deref()), (202, Some(expected)));
        }
    }

    #[test]
    fn what_is_not_http_is_refused() {
        assert!(parse("SSH-2.0-OpenSSH_9").is_err());
        assert!(parse("").is_err());
    }

    /// Answers whatever comes with `answer`, cut into pieces of `size` bytes, and hangs up.
    async fn answering(answer: &'static [u8], size: usize) -> SocketAddr {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).await.unwrap();
            for piece in answer.chunks(size) {
                stream.write_all(piece).await.unwrap();
                tokio::task::yield_now().await;
            }
        });
        address
    }

    #[tokio::test]
    async fn a_chunked_body_is_read_however_it_is_cut() {
        for size in [1, 3, 1000] {
            let address =
                answering(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6;x=y\r\n world\r\n0\r\n\r\n", size)
                    .await;
            let mut connection = Connection::open(address).await.unwrap();
            let head = connection.send("GET", "/", "", Body::None).await.unwrap();
            assert_eq!(connection.collect(&head).await.unwrap(), b"hello world");
        }
    }

    #[tokio::test]
    async fn a_body_that_ends_early_is_an_error() {
        let address = answering(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello", 1000).await;
        let mut connection = Connection::open(address).await.unwrap();
        assert!(connection.get("/", "").await.is_err());
    }
}
