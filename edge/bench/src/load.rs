//! The load generator: HTTP/1.1 keep-alive connections that send one prepared request again and again.

use std::{
    cell::Cell,
    net::SocketAddr,
    rc::Rc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::LocalSet,
};

/// A request as bytes.
#[derive(Clone)]
pub(crate) struct Prepared {
    bytes: Rc<[u8]>,
}

impl Prepared {
    /// A request with these headers; `body` is JSON.
    pub(crate) fn new(method: &str, target: &str, headers: &[(&str, &str)], body: Option<&[u8]>) -> Self {
        let mut text = format!(
            "{method} {target} HTTP/1.1\r\nhost: api.example.com\r\naccept: application/json\r\nuser-agent: edge-bench\r\n"
        );
        for (name, value) in headers {
            text.extend([name, ": ", value, "\r\n"]);
        }
        if let Some(body) = body {
            let length = body.len().to_string();
            text.extend(["content-type: application/json\r\ncontent-length: ", &length, "\r\n"]);
        }
        text.push_str("\r\n");
        let mut bytes = text.into_bytes();
        bytes.extend_from_slice(body.unwrap_or_default());
        Self { bytes: bytes.into() }
    }
}

/// One connection, with what was read and not yet looked at.
struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// How the end of an answer is found.
enum Length {
    Known(usize),
    Chunked,
}

impl Connection {
    async fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(1 << 20) })
    }

    /// Sends the request and reads the whole answer; gives where its body begins in the buffer.
    async fn exchange(&mut self, request: &Prepared) -> anyhow::Result<usize> {
        self.stream.write_all(&request.bytes).await?;
        self.buffer.clear();
        let mut head: Option<(usize, Length)> = None;
        loop {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                bail!("the gateway closed the connection after {}", String::from_utf8_lossy(&self.buffer));
            }
            if head.is_none() {
                head = parse_head(&self.buffer)?;
            }
            match head {
                Some((start, Length::Known(length))) if self.buffer.len() >= start + length => {
                    return Ok(start);
                }
                Some((start, Length::Chunked))
                    if self.buffer.len() > start && self.buffer.ends_with(b"\r\n0\r\n\r\n") =>
                {
                    return Ok(start);
                }
                Some(_) | None => {}
            }
        }
    }
}

fn parse_head(buffer: &[u8]) -> anyhow::Result<Option<(usize, Length)>> {
    let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
    let head = std::str::from_utf8(&buffer[..end])?;
    if !head.starts_with("HTTP/1.1 200 ") {
        bail!("the gateway answered {}", String::from_utf8_lossy(buffer));
    }
    let mut length = None;
    for line in head.split("\r\n").skip(1) {
        let (name, value) = line.split_once(':').context("a header without a colon")?;
        if name.eq_ignore_ascii_case("content-length") {
            length = Some(Length::Known(value.trim().parse()?));
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            length = Some(Length::Chunked);
        }
    }
    Ok(Some((end + 4, length.context("an answer without a length")?)))
}

/// The body of one answer.
pub(crate) async fn once(address: SocketAddr, request: &Prepared) -> anyhow::Result<Vec<u8>> {
    let mut connection = Connection::open(address).await?;
    let start = connection.exchange(request).await?;
    let body = &connection.buffer[start..];
    if matches!(parse_head(&connection.buffer)?, Some((_, Length::Chunked))) {
        unchunk(body)
    } else {
        Ok(body.to_vec())
    }
}

fn unchunk(mut body: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut whole = Vec::new();
    loop {
        let line = body.windows(2).position(|window| window == b"\r\n").context("a chunk without a size")?;
        let size = usize::from_str_radix(std::str::from_utf8(&body[..line])?, 16)?;
        if size == 0 {
            return Ok(whole);
        }
        whole.extend_from_slice(&body[line + 2..line + 2 + size]);
        body = &body[line + 2 + size + 2..];
    }
}

/// As many requests as go through on this many connections; gives how many that were.
pub(crate) async fn saturate(
    address: SocketAddr,
    request: &Prepared,
    connections: usize,
    duration: Duration,
) -> anyhow::Result<u64> {
    let end = Instant::now() + duration;
    let done = Rc::new(Cell::new(0_u64));
    let local = LocalSet::new();
    let mut tasks = Vec::new();
    for _ in 0..connections {
        let (request, done) = (request.clone(), Rc::clone(&done));
        tasks.push(local.spawn_local(async move {
            let mut connection = Connection::open(address).await?;
            while Instant::now() < end {
                connection.exchange(&request).await?;
                done.set(done.get() + 1);
            }
            anyhow::Ok(())
        }));
    }
    local.await;
    for task in tasks {
        task.await??;
    }
    Ok(done.get())
}

/// Requests at a steady rate, whatever the answers take; gives the latency of each, from the instant at which it was due.
pub(crate) async fn pace(
    address: SocketAddr,
    request: &Prepared,
    connections: usize,
    per_second: f64,
    duration: Duration,
) -> anyhow::Result<Vec<Duration>> {
    let begin = Instant::now() + Duration::from_millis(50);
    let interval = Duration::from_secs_f64(1.0 / per_second);
    let next = Rc::new(Cell::new(0_u32));
    let latencies = Rc::new(std::cell::RefCell::new(Vec::new()));
    let local = LocalSet::new();
    let mut tasks = Vec::new();
    for _ in 0..connections {
        let (request, next, latencies) = (request.clone(), Rc::clone(&next), Rc::clone(&latencies));
        tasks.push(local.spawn_local(async move {
            let mut connection = Connection::open(address).await?;
            loop {
                let due = begin + interval * next.get();
                if due > begin + duration {
                    return anyhow::Ok(());
                }
                next.set(next.get() + 1);
                // Timers of the runtime are a thousand times too coarse.
                while Instant::now() < due {
                    tokio::task::yield_now().await;
                }
                connection.exchange(&request).await?;
                latencies.borrow_mut().push(due.elapsed());
            }
        }));
    }
    local.await;
    for task in tasks {
        task.await??;
    }
    Ok(Rc::into_inner(latencies).context("all tasks have ended")?.into_inner())
}
