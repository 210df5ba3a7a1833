//! 2a rows 1 to 13: where a request ends. Rows that the codec cannot pass yet stand in `KNOWN`.

use crate::judge::{
    Expected, Row, aborted, forwarded, forwarded_with, judge, refused, row, unreadable,
};

/// Must shrink.
const KNOWN: &[&str] = &[];

fn post(name: &'static str, lines: &str, body: &str, expected: Expected) -> Row {
    row(name, format!("POST /p HTTP/1.1\r\nHost: chat\r\n{lines}\r\n{body}"), expected)
}

fn chunked(name: &'static str, body: &str, expected: Expected) -> Row {
    post(name, "Transfer-Encoding: chunked\r\n", body, expected)
}

fn get(name: &'static str, lines: impl AsRef<[u8]>, expected: Expected) -> Row {
    let mut sent = b"GET /a HTTP/1.1\r\nHost: chat\r\n".to_vec();
    sent.extend_from_slice(lines.as_ref());
    sent.extend_from_slice(b"\r\n");
    row(name, sent, expected)
}

const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: chat\r\n\r\n";

#[tokio::test]
async fn a_request_has_one_end() {
    judge(lengths().into_iter().chain(chunks()).chain(heads()).collect(), KNOWN).await;
}

fn lengths() -> Vec<Row> {
    let te = "Transfer-Encoding: chunked\r\n";
    let cl = "Content-Length: 6\r\n";
    let end = format!("0\r\n\r\n{SMUGGLED}");
    vec![
        post("1 CL.TE", &format!("{cl}{te}"), &end, unreadable(400)),
        post("1 TE.CL", &format!("{te}{cl}"), &end, unreadable(400)),
        post(
            "2 chunked twice in one line",
            "Transfer-Encoding: chunked, chunked\r\n",
            &end,
            unreadable(400),
        ),
        post("2 chunked in two lines", &format!("{te}{te}"), &end, unreadable(400)),
        post(
            "2 identity, chunked",
            "Transfer-Encoding: identity, chunked\r\n",
            &end,
            unreadable(400),
        ),
        post(
            "2 an empty element",
            "Transfer-Encoding: ,chunked\r\nContent-Length: 5\r\n",
            &end,
            unreadable(400),
        ),
        post("2 gzip, chunked", "Transfer-Encoding: gzip, chunked\r\n", &end, unreadable(400)),
        post(
            "3 a blank before the colon",
            "Transfer-Encoding : chunked\r\n",
            &end,
            unreadable(400),
        ),
        post("3 a vertical tab", "Transfer-Encoding: \x0bchunked\r\n", &end, unreadable(400)),
        post("3 folded", "Transfer-Encoding:\r\n chunked\r\n", &end, unreadable(400)),
        post("3 xchunked", "Transfer-Encoding: xchunked\r\n", &end, unreadable(400)),
        post("3 not ASCII", "Transfer-Encoding: \u{85}chunked\r\n", &end, unreadable(400)),
        row(
            "4 chunked in HTTP/1.0",
            format!("POST /p HTTP/1.0\r\nHost: chat\r\n{te}\r\n{end}"),
            unreadable(400),
        ),
        row(
            "4 chunked in HTTP/1.0, kept alive",
            format!("POST /p HTTP/1.0\r\nHost: chat\r\nConnection: keep-alive\r\n{te}\r\n{end}"),
            unreadable(400),
        ),
        row(
            "5 HTTP/1.0 without a length",
            format!("POST /p HTTP/1.0\r\nHost: chat\r\n\r\n{SMUGGLED}"),
            forwarded("POST /p HTTP/1.1\nhost: chat\ncontent-length: 0"),
        ),
        post(
            "6 two lengths",
            "Content-Length: 5\r\nContent-Length: 6\r\n",
            "hello!",
            unreadable(400),
        ),
        post(
            "6 one length twice",
            "Content-Length: 5\r\nContent-Length: 5\r\n",
            "hello",
            unreadable(400),
        ),
        post("6 a list", "Content-Length: 5, 5\r\n", "hello", unreadable(400)),
        post("6 a sign", "Content-Length: +5\r\n", "hello", unreadable(400)),
        post("6 below zero", "Content-Length: -5\r\n", "hello", unreadable(400)),
        post("6 hex", "Content-Length: 0x5\r\n", "hello", unreadable(400)),
        post("6 digits in groups", "Content-Length: 1_0\r\n", "hello", unreadable(400)),
        post("6 a letter", "Content-Length: 5Z\r\n", "hello", unreadable(400)),
        post("6 empty", "Content-Length:\r\n", "hello", unreadable(400)),
        post(
            "6 beyond 64 bits",
            "Content-Length: 18446744073709551621\r\n",
            "hello",
            unreadable(400),
        ),
        post(
            "7 an unknown expectation",
            "Expect: foo\r\nContent-Length: 5\r\n",
            "hello",
            refused(417),
        ),
        post(
            "7 a refused request with a body",
            "Content-Length: 40\r\nAuthorization: a\r\nAuthorization: b\r\n",
            SMUGGLED,
            refused(400),
        ),
        post(
            "7 a length",
            "Content-Length: 5\r\n",
            "hello",
            forwarded_with("POST /p HTTP/1.1\nhost: chat\ncontent-length: 5", "hello"),
        ),
    ]
}

fn chunks() -> Vec<Row> {
    let good =
        || forwarded_with("POST /p HTTP/1.1\nhost: chat\ntransfer-encoding: chunked", "hello");
    let long_extension = format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(20 * 1024));
    vec![
        chunked("8 plain", "5\r\nhello\r\n0\r\n\r\n", good()),
        chunked("8 leading zeros", "0005\r\nhello\r\n0\r\n\r\n", good()),
        chunked("8 0x", "0x5\r\nhello\r\n0\r\n\r\n", aborted(400)),
        chunked("8 a sign", "+5\r\nhello\r\n0\r\n\r\n", aborted(400)),
        chunked("8 below zero", "-0\r\n\r\n", aborted(400)),
        chunked("8 digits in groups", "0_5\r\nhello\r\n0\r\n\r\n", aborted(400)),
        chunked("8 a leading blank", " 5\r\nhello\r\n0\r\n\r\n", aborted(400)),
        chunked("8 empty", "\r\nhello\r\n0\r\n\r\n", aborted(400)),
        chunked("8 seventeen digits", "00000000000000005\r\nhello\r\n0\r\n\r\n", aborted(400)),
        chunked("9 LF after the size", "5\nhello\r\n0\r\n\r\n", aborted(400)),
        chunked("9 CR after the size", "5\rhello\r\n0\r\n\r\n", aborted(400)),
        chunked("9 LF after the data", "5\r\nhello\n0\r\n\r\n", aborted(400)),
        chunked("9 LF at the end", "5\r\nhello\r\n0\r\n\n", aborted(400)),
        chunked("9 LF in an extension", "5;a\n\r\nhello\r\n0\r\n\r\n", aborted(400)),
        chunked("9 data that spills over", "5\r\nhellooooo\r\n0\r\n\r\n", aborted(400)),
        chunked("9 no line end after the data", "5\r\nhello0\r\n\r\n", aborted(400)),
        chunked("10 an extension", "5;name=value\r\nhello\r\n0\r\n\r\n", good()),
        chunked("10 a quoted extension", "5;a=\"b c\"\r\nhello\r\n0\r\n\r\n", good()),
        chunked("10 an open quote", "5;a=\"\r\nhello\r\n0\r\n\r\n", aborted(400)),
        chunked("10 NUL in an extension", "5;a\0\r\nhello\r\n0\r\n\r\n", aborted(400)),
        chunked("10 extensions that are too long", &long_extension, aborted(400)),
        chunked(
            "11 trailers that speak for the head",
            "5\r\nhello\r\n0\r\nContent-Length: 9\r\nHost: evil\r\nX-Segue-Session: v2\r\n\r\n",
            good(),
        ),
        chunked(
            "11 a pseudo header as a trailer",
            "5\r\nhello\r\n0\r\n:path: /admin\r\n\r\n",
            aborted(400),
        ),
    ]
}

fn heads() -> Vec<Row> {
    vec![
        get("12 NUL in a value", "X: a\0b\r\n", unreadable(400)),
        get("12 CR in a value", "X: a\rb\r\n", unreadable(400)),
        get("12 folded", "X: a\r\n b\r\n", unreadable(400)),
        get("12 folded first", " X: a\r\n", unreadable(400)),
        get("12 an empty name", ": a\r\n", unreadable(400)),
        get("12 a blank in a name", "X y: a\r\n", unreadable(400)),
        get("12 no colon", "X\r\n", unreadable(400)),
        get("12 a name that is not ASCII", "X\u{e9}: a\r\n", unreadable(400)),
        row(
            "12 tabs between the words of the request line",
            "GET\t/a\tHTTP/1.1\r\nHost: chat\r\n\r\n",
            unreadable(400),
        ),
        get(
            "12 tabs around a value",
            "X:\ta\t\r\n",
            forwarded("GET /a HTTP/1.1\nhost: chat\nx: a"),
        ),
        row("12 another version", "GET /a HTTP/1.2\r\nHost: chat\r\n\r\n", unreadable(400)),
        row("12 two versions", "GET /a HTTP/1.1 HTTP/1.1\r\nHost: chat\r\n\r\n", unreadable(400)),
        row("13 LF after a header", "GET /a HTTP/1.1\r\nHost: chat\nX: a\r\n\r\n", unreadable(400)),
        row("13 LF everywhere", "GET /a HTTP/1.1\nHost: chat\n\n", unreadable(400)),
    ]
}
