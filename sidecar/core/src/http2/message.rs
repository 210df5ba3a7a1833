//! Heads of requests and answers, and trailers, as lists of fields (RFC 9113 section 8).

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Method, Request, Response, StatusCode, Uri, Version};
use thiserror::Error;

use super::hpack::{ENTRY_OVERHEAD, Encoder, Field, Pseudo};
use crate::http1::{MOST_FIELDS, MOST_HEAD_BYTES};

/// Fields for which there is room before the table grows.
const USUAL_FIELDS: usize = 12;

/// A message that is not passed on. The stream ends, the connection does not.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Malformed {
    #[error("a field is missing, stands twice, stands in the wrong place, or may not be there")]
    Fields,
    #[error("the fields are more than {MOST_HEAD_BYTES} bytes or {MOST_FIELDS}")]
    TooLarge,
}

/// The protocol that a `CONNECT` asks for (RFC 8441).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Protocol(pub Bytes);

/// A head, and the length of the body that it states.
#[derive(Debug)]
pub struct MessageHead<T> {
    pub head: T,
    pub length: Option<u64>,
}

/// What all lists of fields have.
#[derive(Debug, Default)]
struct Fields {
    headers: HeaderMap,
    size: usize,
    count: usize,
    fault: Option<Malformed>,
}

/// The fields of a request as they come.
#[derive(Debug, Default)]
pub struct RequestFields {
    fields: Fields,
    method: Option<Method>,
    scheme: Option<Scheme>,
    authority: Option<Bytes>,
    path: Option<Bytes>,
    protocol: Option<Bytes>,
}

/// The fields of an answer as they come.
#[derive(Debug, Default)]
pub struct ResponseFields {
    fields: Fields,
    status: Option<StatusCode>,
}

/// The fields behind a body as they come.
#[derive(Debug, Default)]
pub struct TrailerFields {
    fields: Fields,
}

impl Fields {
    /// Counts a field, and keeps it where it is a header; else the pseudo field, where one may stand.
    fn take(&mut self, field: Field) -> Option<(Pseudo, Bytes)> {
        self.size += field.octets() + ENTRY_OVERHEAD;
        self.count += 1;
        if self.size > MOST_HEAD_BYTES || self.count > MOST_FIELDS {
            self.fault.get_or_insert(Malformed::TooLarge);
            return None;
        }
        match field {
            Field::Header(name, value) => {
                if is_of_connection(&name, &value) {
                    self.fault = Some(Malformed::Fields);
                } else {
                    if self.headers.is_empty() {
                        self.headers.reserve(USUAL_FIELDS);
                    }
                    self.headers.append(name, value);
                }
                None
            }
            Field::Pseudo(pseudo, value) if self.headers.is_empty() => Some((pseudo, value)),
            Field::Pseudo(..) | Field::Unfit => {
                self.fault = Some(Malformed::Fields);
                None
            }
        }
    }

    /// Notes a pseudo field; it may stand once.
    fn once<T>(&mut self, place: &mut Option<T>, value: Option<T>) {
        if value.is_none() || place.is_some() {
            self.fault = Some(Malformed::Fields);
        }
        *place = value;
    }

    fn length(&self) -> Result<Option<u64>, Malformed> {
        let Some(length) = self.headers.get(header::CONTENT_LENGTH) else { return Ok(None) };
        let digits = length.as_bytes();
        // A sign, which the number itself could have, is none of its digits.
        let number = digits.first().is_some_and(u8::is_ascii_digit).then(|| length.to_str().ok());
        let number = number.flatten().and_then(|digits| digits.parse().ok());
        number.map(Some).ok_or(Malformed::Fields)
    }
}

/// Whether it is a word of HTTP/1.1 to its neighbour (RFC 9113 section 8.2.2).
fn is_of_connection(name: &HeaderName, value: &HeaderValue) -> bool {
    match *name {
        header::CONNECTION | header::TRANSFER_ENCODING | header::UPGRADE => true,
        header::TE => value != "trailers",
        ref other => matches!(other.as_str(), "keep-alive" | "proxy-connection"),
    }
}

impl RequestFields {
    /// Takes the next field.
    pub fn take(&mut self, field: Field) {
        let Some((pseudo, value)) = self.fields.take(field) else { return };
        let fields = &mut self.fields;
        match pseudo {
            Pseudo::Method => fields.once(&mut self.method, Method::from_bytes(&value).ok()),
            Pseudo::Scheme => fields.once(&mut self.scheme, Scheme::try_from(&*value).ok()),
            Pseudo::Authority => fields.once(&mut self.authority, Some(value)),
            Pseudo::Path => fields.once(&mut self.path, Some(value)),
            Pseudo::Protocol => fields.once(&mut self.protocol, Some(value)),
            Pseudo::Status => fields.fault = Some(Malformed::Fields),
        }
    }

    /// The request.
    pub fn finish(self) -> Result<MessageHead<Request<()>>, Malformed> {
        if let Some(fault) = self.fields.fault {
            return Err(fault);
        }
        let length = self.fields.length()?;
        let method = self.method.ok_or(Malformed::Fields)?;
        let is_connect = method == Method::CONNECT;
        let is_extended = self.protocol.is_some();
        let complete = match (is_connect, is_extended) {
            // RFC 9113 section 8.5: neither of them; RFC 8441 section 4: both.
            (true, false) => {
                self.scheme.is_none() && self.path.is_none() && self.authority.is_some()
            }
            (true, true) => {
                self.scheme.is_some() && self.path.is_some() && self.authority.is_some()
            }
            (false, false) => self.scheme.is_some() && self.path.is_some(),
            (false, true) => false,
        };
        if !complete {
            return Err(Malformed::Fields);
        }
        let mut uri = http::uri::Parts::default();
        if let Some(authority) = self.authority.filter(|authority| !authority.is_empty()) {
            let authority = Authority::from_maybe_shared(authority);
            uri.authority = Some(authority.map_err(|_| Malformed::Fields)?);
            // A target without an authority has no scheme either.
            uri.scheme = self.scheme;
        }
        if let Some(path) = self.path {
            if path.is_empty() {
                return Err(Malformed::Fields);
            }
            let path = PathAndQuery::from_maybe_shared(path);
            uri.path_and_query = Some(path.map_err(|_| Malformed::Fields)?);
        }
        let mut head = Request::new(());
        *head.method_mut() = method;
        *head.uri_mut() = Uri::from_parts(uri).map_err(|_| Malformed::Fields)?;
        *head.version_mut() = Version::HTTP_2;
        *head.headers_mut() = self.fields.headers;
        if let Some(protocol) = self.protocol {
            head.extensions_mut().insert(Protocol(protocol));
        }
        Ok(MessageHead { head, length })
    }
}

impl ResponseFields {
    /// Takes the next field.
    pub fn take(&mut self, field: Field) {
        match self.fields.take(field) {
            Some((Pseudo::Status, value)) => {
                self.fields.once(&mut self.status, StatusCode::from_bytes(&value).ok());
            }
            Some(_) => self.fields.fault = Some(Malformed::Fields),
            None => {}
        }
    }

    /// The answer.
    pub fn finish(self) -> Result<MessageHead<Response<()>>, Malformed> {
        if let Some(fault) = self.fields.fault {
            return Err(fault);
        }
        let length = self.fields.length()?;
        let mut head = Response::new(());
        *head.status_mut() = self.status.ok_or(Malformed::Fields)?;
        *head.version_mut() = Version::HTTP_2;
        *head.headers_mut() = self.fields.headers;
        Ok(MessageHead { head, length })
    }
}

impl TrailerFields {
    /// Takes the next field.
    pub fn take(&mut self, field: Field) {
        if self.fields.take(field).is_some() {
            self.fields.fault = Some(Malformed::Fields);
        }
    }

    /// The trailers.
    pub fn finish(self) -> Result<HeaderMap, Malformed> {
        self.fields.fault.map_or(Ok(self.fields.headers), Err)
    }
}

/// Writes the fields of a request. Its target has a scheme, an authority and a path.
pub fn write_request<B>(encoder: &mut Encoder, page: &mut Vec<u8>, request: &Request<B>) {
    let (uri, extensions) = (request.uri(), request.extensions());
    encoder.begin(page);
    encoder.pseudo(page, Pseudo::Method, request.method().as_str().as_bytes());
    let scheme = uri.scheme_str().unwrap_or("http");
    encoder.pseudo(page, Pseudo::Scheme, scheme.as_bytes());
    if let Some(authority) = uri.authority() {
        encoder.pseudo(page, Pseudo::Authority, authority.as_str().as_bytes());
    }
    let path = uri.path_and_query().map_or("/", PathAndQuery::as_str);
    encoder.pseudo(page, Pseudo::Path, path.as_bytes());
    if *request.method() == Method::CONNECT
        && let Some(Protocol(protocol)) = extensions.get()
    {
        encoder.pseudo(page, Pseudo::Protocol, protocol);
    }
    write_headers(encoder, page, request.headers());
}

/// Writes the fields of an answer.
pub fn write_response(
    encoder: &mut Encoder,
    page: &mut Vec<u8>,
    status: StatusCode,
    headers: &HeaderMap,
) {
    encoder.begin(page);
    encoder.pseudo(page, Pseudo::Status, status.as_str().as_bytes());
    write_headers(encoder, page, headers);
}

/// Writes trailers.
pub fn write_trailers(encoder: &mut Encoder, page: &mut Vec<u8>, headers: &HeaderMap) {
    encoder.begin(page);
    write_headers(encoder, page, headers);
}

fn write_headers(encoder: &mut Encoder, page: &mut Vec<u8>, headers: &HeaderMap) {
    for (name, value) in headers {
        encoder.header(page, name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http2::hpack::Decoder;

    fn pseudo(name: Pseudo, value: &'static str) -> Field {
        Field::Pseudo(name, Bytes::from_static(value.as_bytes()))
    }

    fn header(name: &'static str, value: &'static str) -> Field {
        Field::Header(HeaderName::from_static(name), HeaderValue::from_static(value))
    }

    fn get() -> Vec<Field> {
        vec![
            pseudo(Pseudo::Method, "GET"),
            pseudo(Pseudo::Scheme, "http"),
            pseudo(Pseudo::Authority, "chat"),
            pseudo(Pseudo::Path, "/a?b"),
        ]
    }

    fn request(fields: Vec<Field>) -> Result<MessageHead<Request<()>>, Malformed> {
        let mut request = RequestFields::default();
        for field in fields {
            request.take(field);
        }
        request.finish()
    }

    #[test]
    fn a_request_is_read_as_it_was_written() {
        let read = request([get(), vec![header("content-length", "7")]].concat()).unwrap();
        assert_eq!(read.length, Some(7));
        let mut page = Vec::new();
        write_request(&mut Encoder::default(), &mut page, &read.head);
        let mut again = RequestFields::default();
        Decoder::new(4096).decode(&page, |field| again.take(field)).unwrap();
        let again = again.finish().unwrap().head;
        assert_eq!((again.method(), again.uri()), (read.head.method(), read.head.uri()));
        assert_eq!(again.headers(), read.head.headers());
        assert_eq!(again.uri(), "http://chat/a?b");
    }

    #[test]
    fn what_a_request_must_not_have_makes_it_malformed() {
        let with = |field| [get(), vec![field]].concat();
        let without = |place: usize| {
            let mut fields = get();
            fields.remove(place);
            fields
        };
        let behind = [without(3), vec![header("a", "b"), pseudo(Pseudo::Path, "/")]].concat();
        for (what, fields) in [
            ("no method", without(0)),
            ("no scheme", without(1)),
            ("no path", without(3)),
            ("two paths", with(pseudo(Pseudo::Path, "/"))),
            ("an empty path", [without(3), vec![pseudo(Pseudo::Path, "")]].concat()),
            ("a status", with(pseudo(Pseudo::Status, "200"))),
            ("a protocol", with(pseudo(Pseudo::Protocol, "websocket"))),
            ("a field that is none", with(Field::Unfit)),
            ("a pseudo field behind headers", behind),
            ("connection", with(header("connection", "close"))),
            ("transfer-encoding", with(header("transfer-encoding", "chunked"))),
            ("keep-alive", with(header("keep-alive", "1"))),
            ("te", with(header("te", "gzip"))),
            ("a length that is none", with(header("content-length", "+1"))),
        ] {
            assert_eq!(request(fields).unwrap_err(), Malformed::Fields, "{what}");
        }
        assert!(request(with(header("te", "trailers"))).is_ok());
        assert!(request(without(2)).is_ok(), "the Host may stand for the authority");
    }

    #[test]
    fn a_tunnel_has_an_authority_and_a_websocket_all() {
        let method = pseudo(Pseudo::Method, "CONNECT");
        let authority = pseudo(Pseudo::Authority, "chat:80");
        assert!(request(vec![method.clone(), authority]).is_ok());
        assert!(request(vec![method.clone()]).is_err());
        let mut websocket = get();
        websocket[0] = method;
        assert!(request(websocket.clone()).is_err());
        websocket.push(pseudo(Pseudo::Protocol, "websocket"));
        let read = request(websocket).unwrap().head;
        assert_eq!(read.extensions().get::<Protocol>().unwrap().0, "websocket");
    }

    #[test]
    fn too_much_is_too_large() {
        let mut fields = get();
        fields.extend((0..MOST_FIELDS).map(|_| header("a", "b")));
        assert_eq!(request(fields).unwrap_err(), Malformed::TooLarge);
        let value = HeaderValue::from_bytes(&vec![b'x'; MOST_HEAD_BYTES]).unwrap();
        let long = Field::Header(HeaderName::from_static("a"), value);
        assert_eq!(request([get(), vec![long]].concat()).unwrap_err(), Malformed::TooLarge);
    }

    #[test]
    fn answers_and_trailers() {
        let response = |fields: Vec<Field>| {
            let mut response = ResponseFields::default();
            for field in fields {
                response.take(field);
            }
            response.finish()
        };
        let read = response(vec![pseudo(Pseudo::Status, "204"), header("a", "b")]).unwrap().head;
        assert_eq!((read.status().as_u16(), &read.headers()["a"] == "b"), (204, true));
        assert!(response(vec![header("a", "b")]).is_err());
        assert!(response(vec![pseudo(Pseudo::Status, "20")]).is_err());
        assert!(response(vec![pseudo(Pseudo::Path, "/")]).is_err());
        let mut trailers = TrailerFields::default();
        trailers.take(header("grpc-status", "0"));
        assert_eq!(trailers.finish().unwrap()["grpc-status"], "0");
        let mut trailers = TrailerFields::default();
        trailers.take(pseudo(Pseudo::Status, "200"));
        assert!(trailers.finish().is_err());
    }
}
