//! Everything at once, for long: all kinds of callers, good and bad, while configuration changes and
//! instances die. No failure, and nothing grows.
//!
//! Some 20 seconds by default, half an hour with `SEGUE_TEST_FULL=1`, or `SEGUE_SOAK_MINUTES`.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use segue_tests::admin::Admin;
use segue_tests::binaries::Binaries;
use segue_tests::fetch::Fetch;
use segue_tests::load::{Load, Pace, Plan, Protocol};
use segue_tests::mesh::{Mesh, Sidecar};
use segue_tests::process::{Process, Program};
use segue_tests::wait;
use segue_tests::written::{service, service_of};

use crate::{alone, full};

const PATIENCE: Duration = Duration::from_secs(20);
/// What may come and go: buffers of a busier moment.
const MOST_GROWTH_KIB: i64 = 8 * 1024;

fn duration() -> Duration {
    let minutes = std::env::var("SEGUE_SOAK_MINUTES").ok().and_then(|it| it.parse().ok());
    let of_kind = if full() { Duration::from_mins(30) } else { Duration::from_secs(20) };
    minutes.map_or(of_kind, Duration::from_mins)
}

#[test]
fn nothing_fails_and_nothing_grows() {
    let _turn = alone();
    let mesh = Mesh::start().unwrap();
    let sidecar = mesh.sidecar("caller-1").unwrap();
    let mut dying: Vec<Instance> = (1..=3).map(|i| Instance::start(&mesh, i)).collect();
    let (v2, steady) = (mesh.echo("v2").unwrap(), mesh.echo("steady").unwrap());
    let raw = echo_bytes();
    let v1: Vec<SocketAddr> = dying.iter().map(|it| it.address).collect();
    let services = service("steady", &[("v1", vec![steady.address])])
        + &service_of("tcp", "raw", &[("v1", vec![raw])]);
    let chat = |v1: &[SocketAddr], weight: u32| {
        service("chat", &[("v1", v1.to_vec()), ("v2", vec![v2.address])])
            + &format!(
                "---\nkind: Route\nmetadata: {{name: chat}}\nspec:\n  targetRef: {{name: chat}}\n  \
                 splitBy: {{header: x-user-id}}\n  rules:\n    - retry: {{codes: [503], attempts: 4}}\n      \
                 backendRefs:\n        - {{name: chat, version: v1, weight: {}}}\n        \
                 - {{name: chat, version: v2, weight: {weight}}}\n",
                10_000 - weight
            )
    };
    mesh.apply(&(services + &chat(&v1, 0))).unwrap();
    let mut admin = mesh.admin().unwrap();
    let out = sidecar.outbound;
    wait::until("all is served", PATIENCE, || {
        let serves =
            |host: &str| Fetch::get(out, "/").host(host).send().is_ok_and(|it| it.status == 200);
        (serves("chat") && serves("steady")).then_some(())
    })
    .unwrap();
    let base = open_files(&sidecar);

    let crowd = Crowd::default();
    let load = Load::start(Plan { pace: Pace::Open(200.0), ..Plan::new(out, "chat") }).unwrap();
    let callers = callers(&crowd, out);
    let (begun, length) = (Instant::now(), duration());
    let mut sizes = Vec::new();
    let mut round = 0_u32;
    while begun.elapsed() < length {
        round += 1;
        push(&mut admin, &chat, &v1, round);
        if round.is_multiple_of(4) {
            let dies = &mut dying[(round / 4) as usize % 3];
            dies.restart(round.is_multiple_of(8));
        }
        thread::sleep(Duration::from_millis(250));
        sizes.push(resident_kib(&sidecar));
    }
    let report = load.stop();
    crowd.over.store(true, Ordering::Relaxed);
    for caller in callers {
        caller.join().unwrap();
    }
    let told = crowd.counts();
    println!("{round} changes, {report}\n{told}");
    assert_eq!(report.failed, 0, "{report}");
    let failures = crowd.failures.lock().unwrap();
    assert!(failures.is_empty(), "{} failures: {:?}\n{told}", failures.len(), &failures[..1]);

    // The first third is for what is allocated once.
    let third = sizes.len() / 3;
    let (middle, last) = (median(&sizes[third..2 * third]), median(&sizes[2 * third..]));
    println!("resident: {middle} KiB, then {last} KiB");
    assert!(last - middle < MOST_GROWTH_KIB, "from {middle} to {last} KiB: {sizes:?}");
    let mut now = 0;
    wait::until("connections of callers that are gone are closed", PATIENCE, || {
        now = open_files(&sidecar);
        // Those to upstreams are kept for a while, a few for each of six endpoints and two workers.
        (now <= base + 60).then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}: {base} files at first, {now} at last"));
    println!("{base} open files at first, {now} at last");
}

/// One change of configuration: weights always, and now and then endpoints or whole services.
fn push(
    admin: &mut Admin,
    chat: &impl Fn(&[SocketAddr], u32) -> String,
    v1: &[SocketAddr],
    round: u32,
) {
    let fewer = &v1[..v1.len() - (round % 2) as usize];
    let mut written = chat(fewer, round * 700 % 5000) + "---\n";
    if round.is_multiple_of(3) {
        written += &service(&format!("other-{}", round % 5), &[("v1", vec![v1[0]])]);
    }
    admin.apply(written).unwrap();
}

/// Who calls, and what became of it.
#[derive(Clone, Default)]
struct Crowd {
    over: Arc<AtomicBool>,
    failures: Arc<Mutex<Vec<String>>>,
    counts: Arc<Mutex<Vec<Count>>>,
}

/// What somebody did, and how often.
type Count = (&'static str, Arc<AtomicU64>);

impl Crowd {
    /// Does the same again and again until all is over.
    fn join(
        &self,
        name: &'static str,
        mut act: impl FnMut() -> io::Result<()> + Send + 'static,
    ) -> JoinHandle<()> {
        let (crowd, count) = (self.clone(), Arc::<AtomicU64>::default());
        self.counts.lock().unwrap().push((name, Arc::clone(&count)));
        thread::spawn(move || {
            while !crowd.over.load(Ordering::Relaxed) {
                if let Err(error) = act() {
                    crowd.failures.lock().unwrap().push(format!("{name}: {error}"));
                }
                count.fetch_add(1, Ordering::Relaxed);
            }
        })
    }

    fn counts(&self) -> String {
        self.counts.lock().unwrap().iter().fold(String::new(), |mut all, (name, count)| {
            let _ = write!(all, "{name} {}, ", count.load(Ordering::Relaxed));
            all
        })
    }
}

fn callers(crowd: &Crowd, out: SocketAddr) -> Vec<JoinHandle<()>> {
    let body: bytes::Bytes = vec![7; 1 << 20].into();
    let mut all = Vec::new();
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let steady = move |path: &str| {
            Fetch::get(out, path).host("steady").protocol(protocol).timeout(PATIENCE)
        };
        let body = body.clone();
        all.push(crowd.join("uploads", move || {
            let answer = steady("/up").body(body.clone()).send()?;
            same(&answer.body, &body, answer.status)
        }));
        all.push(crowd.join("downloads", move || {
            let answer = steady("/bytes?n=2000000").send()?;
            sized(answer.body.len(), 2_000_000, answer.status)
        }));
        all.push(crowd.join("event streams", move || {
            let answer = steady("/sse?n=20&ms=20").send()?;
            let events = String::from_utf8_lossy(&answer.body).matches("data:").count();
            sized(events, 20, answer.status)
        }));
    }
    all.push(crowd.join("gRPC calls", move || {
        let call = Fetch::get(out, "/chat.Chat/Say").host("steady").protocol(Protocol::Http2);
        let call = call.header("content-type", "application/grpc").header("te", "trailers");
        let answer = call.body(&b"\0\0\0\0\0"[..]).timeout(PATIENCE).send()?;
        thread::sleep(Duration::from_millis(5));
        sized(usize::from(answer.body.is_empty()), 0, answer.status)
    }));
    all.push(crowd.join("tunnels", move || tunnel(out)));
    // From here on they are the fault themselves: only what they leave behind counts.
    all.push(crowd.join("slow readers", move || {
        let mut stream = ask(out, "GET /bytes?n=8000000 HTTP/1.1\r\nHost: steady\r\n\r\n")?;
        for _ in 0..20 {
            stream.read_exact(&mut [0; 4096])?;
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }));
    all.push(crowd.join("half heads", move || {
        let stream = ask(out, "GET /never HTTP/1.1\r\nHost: ste");
        thread::sleep(Duration::from_millis(50));
        stream.map(drop)
    }));
    all.push(crowd.join("half uploads", move || {
        let head = "POST /up HTTP/1.1\r\nHost: steady\r\nContent-Length: 1000000\r\n\r\n";
        let mut stream = ask(out, head)?;
        stream.write_all(&[7; 100_000])?;
        thread::sleep(Duration::from_millis(20));
        Ok(())
    }));
    all.push(crowd.join("callers that go", move || {
        let stream = ask(out, "GET /delay?ms=1000 HTTP/1.1\r\nHost: steady\r\n\r\n");
        thread::sleep(Duration::from_millis(30));
        stream.map(drop)
    }));
    all
}

fn ask(out: SocketAddr, bytes: &str) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(out)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(bytes.as_bytes())?;
    Ok(stream)
}

/// Through `CONNECT` to a service of bytes: all comes back, and then the end.
fn tunnel(out: SocketAddr) -> io::Result<()> {
    let mut stream = ask(out, "CONNECT raw:80 HTTP/1.1\r\nHost: raw:80\r\n\r\n")?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut octet = [0];
        stream.read_exact(&mut octet)?;
        head.push(octet[0]);
    }
    let sent = vec![9; 200_000];
    let mut writer = stream.try_clone()?;
    let writing = thread::spawn(move || {
        writer.write_all(&[9; 200_000])?;
        writer.shutdown(Shutdown::Write)
    });
    let mut came = Vec::new();
    stream.read_to_end(&mut came)?;
    writing.join().map_err(|_| io::Error::other("the writer broke off"))??;
    same(&came, &sent, 200)
}

fn same(came: &[u8], sent: &[u8], status: u16) -> io::Result<()> {
    if came == sent && status == 200 {
        return Ok(());
    }
    Err(io::Error::other(format!("{} of {} bytes came, status {status}", came.len(), sent.len())))
}

fn sized(came: usize, wanted: usize, status: u16) -> io::Result<()> {
    if came == wanted && status == 200 {
        return Ok(());
    }
    Err(io::Error::other(format!("{came} instead of {wanted}, status {status}")))
}

/// An instance that dies and comes back where it was.
struct Instance {
    program: Program,
    process: Process,
    address: SocketAddr,
}

impl Instance {
    fn start(mesh: &Mesh, number: usize) -> Self {
        let echo = Binaries::find().unwrap().echo();
        let any = Program::new(format!("dying-{number}"), echo, mesh.dir()).flag("--version", "v1");
        let process = any.clone().flag("--address", "127.0.0.1:0").start().unwrap();
        let address = process.listening("http").unwrap();
        Self { program: any.flag("--address", address.to_string()), process, address }
    }

    fn restart(&mut self, as_a_crash: bool) {
        if as_a_crash {
            self.process.kill9().unwrap();
        } else {
            self.process.terminate(PATIENCE).unwrap();
        }
        self.process = self.program.start().unwrap();
        self.process.listening("http").unwrap();
    }
}

/// Sends back whatever comes.
fn echo_bytes() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || -> io::Result<()> {
                io::copy(&mut stream.try_clone()?, &mut &stream)?;
                stream.shutdown(Shutdown::Write)
            });
        }
    });
    address
}

fn resident_kib(sidecar: &Sidecar) -> i64 {
    let status = fs::read_to_string(format!("/proc/{}/status", sidecar.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

fn open_files(sidecar: &Sidecar) -> usize {
    fs::read_dir(format!("/proc/{}/fd", sidecar.id())).unwrap().count()
}

fn median(sizes: &[i64]) -> i64 {
    let mut sorted = sizes.to_vec();
    sorted.sort_unstable();
    sorted[sorted.len() / 2]
}
