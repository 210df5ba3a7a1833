//! Entries for fuzzing: each takes any bytes and panics where a promise of this module is broken.

use super::hpack::{Decoder, Encoder, Field};
use super::message::{RequestFields, ResponseFields, TrailerFields, write_request, write_response};

const TABLE_BYTES: usize = 4096;
/// How often a list is written: from the third time on it comes from the table.
const TIMES: usize = 4;

/// Blocks of fields, each behind its length in two bytes: whatever is read, written is read as the
/// same, also when it comes from the table.
pub fn hpack(bytes: &[u8]) {
    let mut decoder = Decoder::new(TABLE_BYTES);
    let (mut encoder, mut again) = (Encoder::default(), Decoder::new(TABLE_BYTES));
    let mut rest = bytes;
    while let [high, low, after @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(after.len());
        let (block, after) = after.split_at(length);
        rest = after;
        let mut fields = Vec::new();
        if decoder.decode(block, |field| fields.push(field)).is_err() {
            return;
        }
        fields.retain(|field| *field != Field::Unfit);
        for _ in 0..TIMES {
            let mut page = Vec::new();
            encoder.begin(&mut page);
            for field in &fields {
                match field {
                    Field::Pseudo(name, value) => encoder.pseudo(&mut page, *name, value),
                    Field::Header(name, value) => encoder.header(&mut page, name, value),
                    Field::Unfit => {}
                }
            }
            let mut read = Vec::new();
            let decoded = again.decode(&page, |field| read.push(field));
            assert_eq!((decoded, &read), (Ok(()), &fields));
        }
    }
}

/// One block of fields as each kind of list: whatever is taken for a head, written is taken for the
/// same.
pub fn head(bytes: &[u8]) {
    let mut request = RequestFields::default();
    let mut response = ResponseFields::default();
    let mut trailers = TrailerFields::default();
    let decoded = Decoder::new(TABLE_BYTES).decode(bytes, |field| {
        request.take(field.clone());
        response.take(field.clone());
        trailers.take(field);
    });
    if decoded.is_err() {
        return;
    }
    let mut page = Vec::new();
    if let Ok(request) = request.finish()
        && request.head.uri().authority().is_some()
        && request.head.uri().scheme().is_some()
    {
        write_request(&mut Encoder::default(), &mut page, &request.head);
        let mut again = RequestFields::default();
        assert_eq!(Decoder::new(TABLE_BYTES).decode(&page, |field| again.take(field)), Ok(()));
        let again = again.finish();
        assert_eq!(again.as_ref().map(|it| it.length), Ok(request.length));
        let again = again.map(|it| it.head.into_parts().0);
        let request = request.head.into_parts().0;
        assert!(again.is_ok_and(|again| {
            (again.method, again.uri, again.headers)
                == (request.method, request.uri, request.headers)
        }));
    } else if let Ok(response) = response.finish() {
        let (status, headers) = (response.head.status(), response.head.headers());
        write_response(&mut Encoder::default(), &mut page, status, headers);
        let mut again = ResponseFields::default();
        assert_eq!(Decoder::new(TABLE_BYTES).decode(&page, |field| again.take(field)), Ok(()));
        let again = again.finish();
        assert!(again.is_ok_and(|it| (it.head.status(), it.head.headers()) == (status, headers)));
    } else {
        // Whatever it is, it holds no pseudo fields.
        let _ = trailers.finish();
    }
}
