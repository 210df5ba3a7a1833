//! What a request costs in allocations: a number that no machine changes.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use segue_sidecar_core::snapshot::HttpVersion;
use support::{Chat, Plane, plane, upstream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// The system's allocator, which counts what the threads of the sidecar ask it for.
struct Counting;

static COUNT: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// Callers and upstreams run on the thread of the test, which is not counted.
    static IS_COUNTED: Cell<bool> = const { Cell::new(true) };
}

fn count() {
    if IS_COUNTED.try_with(Cell::get).unwrap_or(false) {
        COUNT.fetch_add(1, Relaxed);
    }
}

// SAFETY: each call is passed on to the system's allocator as it is.
#[expect(unsafe_code, reason = "an allocator cannot be written without")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        count();
        unsafe { System.realloc(pointer, layout, bytes) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const WARM_UP: u64 = 200;
const REQUESTS: u64 = 2_000;

/// Sends a request and reads its answer, which ends with `hello`.
async fn ask(caller: &mut TcpStream, request: &[u8]) {
    caller.write_all(request).await.unwrap();
    let mut answer = [0; 4096];
    let mut length = 0;
    while !answer[..length].ends_with(b"hello") {
        let read = caller.read(&mut answer[length..]).await.unwrap();
        assert!(read > 0, "the answer broke off: {:?}", answer[..length].escape_ascii());
        length += read;
    }
}

/// Allocations of one request on a connection that has served many.
async fn allocations(plane: &Plane, request: &[u8]) -> f64 {
    let mut caller = TcpStream::connect(plane.outbound).await.unwrap();
    for _ in 0..WARM_UP {
        ask(&mut caller, request).await;
    }
    let before = COUNT.load(Relaxed);
    for _ in 0..REQUESTS {
        ask(&mut caller, request).await;
    }
    (COUNT.load(Relaxed) - before) as f64 / REQUESTS as f64
}

#[tokio::test]
async fn a_request_over_http1_allocates_a_handful_of_times() {
    IS_COUNTED.set(false);
    let request = b"GET /users/7?full=1 HTTP/1.1\r\nhost: chat\r\nuser-agent: test\r\n\
                    accept: */*\r\nx-user-id: ada\r\n\r\n";
    for (to, most) in [(HttpVersion::Http1, 5.5), (HttpVersion::Http2, 13.5)] {
        let upstream = upstream(to).await;
        let plane = plane(&Chat { http: to, ..Chat::http1(upstream.address) });
        let found = allocations(&plane, request).await;
        println!("{found} allocations a request to {to:?}");
        assert!(found <= most, "{found} allocations a request to {to:?}, {most} at most");
    }
}
