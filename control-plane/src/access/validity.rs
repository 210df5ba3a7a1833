//! Until when a certificate counts (RFC 5280, 4.1.2.5).

use std::time::{Duration, SystemTime};

use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// Tags of DER (X.690, 8).
mod tag {
    pub const INTEGER: u8 = 0x02;
    pub const UTC_TIME: u8 = 0x17;
    pub const GENERALIZED_TIME: u8 = 0x18;
    pub const SEQUENCE: u8 = 0x30;
    /// `[0]` of a certificate: its version.
    pub const VERSION: u8 = 0xa0;
}

/// The last moment of a certificate in DER. `None` where it is no such thing, as none is that was
/// verified.
pub fn not_after(certificate: &[u8]) -> Option<SystemTime> {
    let (mut certificate, _) = take(certificate, tag::SEQUENCE)?;
    let mut signed = take_from(&mut certificate, tag::SEQUENCE)?;
    if signed.first() == Some(&tag::VERSION) {
        take_from(&mut signed, tag::VERSION)?;
    }
    take_from(&mut signed, tag::INTEGER)?;
    let _algorithm = take_from(&mut signed, tag::SEQUENCE)?;
    let _issuer = take_from(&mut signed, tag::SEQUENCE)?;
    let mut validity = take_from(&mut signed, tag::SEQUENCE)?;
    let _not_before = take_time(&mut validity)?;
    take_time(&mut validity)
}

/// What follows such a tag, and what comes behind it.
fn take(der: &[u8], wanted: u8) -> Option<(&[u8], &[u8])> {
    let (&[found, length], content) = der.split_first_chunk()?;
    if found != wanted {
        return None;
    }
    let (length, content) = match length {
        0..=0x7f => (usize::from(length), content),
        // Nothing of ours is longer than two bytes can say.
        0x81 => (usize::from(*content.first()?), &content[1..]),
        0x82 => {
            let (length, content) = content.split_first_chunk()?;
            (usize::from(u16::from_be_bytes(*length)), content)
        }
        _ => return None,
    };
    content.split_at_checked(length)
}

fn take_from<'a>(der: &mut &'a [u8], wanted: u8) -> Option<&'a [u8]> {
    let (content, rest) = take(der, wanted)?;
    *der = rest;
    Some(content)
}

fn take_time(der: &mut &[u8]) -> Option<SystemTime> {
    let (text, century) = if der.first() == Some(&tag::UTC_TIME) {
        let text = take_from(der, tag::UTC_TIME)?;
        // Two digits are a year from 1950 to 2049.
        (text, if *text.first()? < b'5' { "20" } else { "19" })
    } else {
        (take_from(der, tag::GENERALIZED_TIME)?, "")
    };
    let text = format!("{century}{}", std::str::from_utf8(text).ok()?);
    let time = DateTime::strptime("%Y%m%d%H%M%SZ", text).ok()?;
    let seconds = time.to_zoned(TimeZone::UTC).ok()?.timestamp().as_second();
    match u64::try_from(seconds) {
        Ok(seconds) => SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds)),
        Err(_) => Some(SystemTime::UNIX_EPOCH),
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    fn until(year: i32) -> CertificateParams {
        let mut params = CertificateParams::new(vec!["a.test".to_owned()]).unwrap();
        params.not_before = date_time_ymd(1951, 2, 3);
        params.not_after = date_time_ymd(year, 2, 3);
        params
    }

    /// Both forms of a time, and the years in which they meet.
    #[test]
    fn the_end_of_a_certificate_is_read_in_both_forms() {
        for (year, days) in [(2026, 20487), (2049, 28888), (2050, 29253), (2120, 54819), (1960, 0)]
        {
            let signed = until(year).self_signed(&KeyPair::generate().unwrap()).unwrap();
            let expected = SystemTime::UNIX_EPOCH + Duration::from_hours(24 * days);
            assert_eq!(not_after(signed.der()), Some(expected), "{year}");
        }
    }

    #[test]
    fn what_is_no_certificate_has_no_end() {
        let signed = until(2026).self_signed(&KeyPair::generate().unwrap()).unwrap();
        let der: &[u8] = signed.der();
        for length in 0..200 {
            assert_eq!(not_after(&der[..length]), None, "{length} bytes");
        }
        assert_eq!(not_after(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff]), None);
    }
}
