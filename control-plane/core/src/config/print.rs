//! Resources as people write them.

use std::fmt::Write as _;

use prost_reflect::{DynamicMessage, Value};
use segue_proto::config::v1::Resource;
use serde_json::{Map, Number, Value as Json};

use super::format::print_duration;
use super::scalar::is_plain_text;
use super::shape::{FieldShape, Form, MessageShape, shapes};

/// The resource as YAML: one document, ended by a line feed, without `---`. Fields stand in the
/// order of the definition, keys of maps in the order of letters.
pub fn to_yaml(resource: &Resource) -> String {
    let mut text = String::new();
    match to_json(resource) {
        Json::Object(fields) if !fields.is_empty() => block_map(&mut text, &fields, 0),
        _ => text.push_str("{}\n"),
    }
    text
}

/// The resource as JSON, in the same words as YAML. `{}` where it says nothing.
pub fn to_json(resource: &Resource) -> Json {
    let nothing = || Json::Object(Map::new());
    let Some(shape) = shapes().of("Resource") else { return nothing() };
    let mut envelope = DynamicMessage::new(shape.descriptor.clone());
    if envelope.transcode_from(resource).is_err() {
        return nothing();
    }
    let body = envelope.fields().find_map(|(_, value)| match value {
        Value::Message(body) => {
            shapes().message(body_name(body)?).map(|shape| message_json(shape, body))
        }
        _ => None,
    });
    body.unwrap_or_else(nothing)
}

fn body_name(body: &DynamicMessage) -> Option<&'static str> {
    use super::key::Kind;
    use prost_reflect::ReflectMessage as _;
    let descriptor = body.descriptor();
    Kind::ALL.into_iter().find_map(|kind| {
        let shape = shapes().of(kind.as_str())?;
        (shape.descriptor == descriptor).then(|| shape.descriptor.full_name())
    })
}

fn message_json(shape: &MessageShape, message: &DynamicMessage) -> Json {
    let fields = shape.fields.iter().filter(|field| message.has_field(&field.descriptor));
    Json::Object(
        fields
            .map(|field| {
                (field.name.clone(), field_json(field, &message.get_field(&field.descriptor)))
            })
            .collect(),
    )
}

fn field_json(field: &FieldShape, value: &Value) -> Json {
    match value {
        Value::List(items) => items.iter().map(|item| field_json(field, item)).collect(),
        Value::Map(map) => {
            let mut entries: Vec<(&str, &str)> = map
                .iter()
                .filter_map(|(key, value)| Some((key.as_str()?, value.as_str()?)))
                .collect();
            entries.sort_unstable();
            Json::Object(
                entries.into_iter().map(|(key, value)| (key.to_owned(), value.into())).collect(),
            )
        }
        Value::Message(message) => match &field.form {
            Form::Message(name) => {
                shapes().message(name).map_or(Json::Null, |shape| message_json(shape, message))
            }
            _ => duration_json(message),
        },
        Value::EnumNumber(number) => match &field.form {
            Form::Enum(texts) => texts
                .iter()
                .find(|text| text.number == *number)
                .map_or_else(|| (*number).into(), |text| text.text.clone().into()),
            _ => (*number).into(),
        },
        Value::Bool(bool) => (*bool).into(),
        Value::I32(number) => (*number).into(),
        Value::I64(number) => (*number).into(),
        Value::U32(number) => (*number).into(),
        Value::U64(number) => (*number).into(),
        Value::F32(number) => number_json(f64::from(*number)),
        Value::F64(number) => number_json(*number),
        Value::String(text) => text.as_str().into(),
        Value::Bytes(bytes) => String::from_utf8_lossy(bytes).into(),
    }
}

/// Whole numbers without a point. What is no number is written as a word, which no reader takes
/// for one.
fn number_json(number: f64) -> Json {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if number.fract() == 0.0 && number.abs() < EXACT {
        return (number as i64).into();
    }
    Number::from_f64(number).map_or_else(|| number.to_string().into(), Json::Number)
}

fn duration_json(message: &DynamicMessage) -> Json {
    let seconds = message.get_field_by_number(1).and_then(|value| value.as_i64());
    let nanos = message.get_field_by_number(2).and_then(|value| value.as_i32());
    print_duration(seconds.unwrap_or_default(), nanos.unwrap_or_default()).into()
}

fn block_map(out: &mut String, fields: &Map<String, Json>, indent: usize) {
    for (i, (key, value)) in fields.iter().enumerate() {
        // The first key of a map in a list stands behind the dash.
        if i > 0 || out.is_empty() || out.ends_with('\n') {
            pad(out, indent);
        }
        scalar_text(out, key);
        out.push(':');
        block_value(out, value, indent);
    }
}

fn block_value(out: &mut String, value: &Json, indent: usize) {
    match value {
        Json::Object(fields) if !fields.is_empty() => {
            out.push('\n');
            block_map(out, fields, indent + 2);
        }
        Json::Array(items) if !items.is_empty() => {
            out.push('\n');
            for item in items {
                pad(out, indent);
                out.push('-');
                match item {
                    Json::Object(fields) if !fields.is_empty() => {
                        out.push(' ');
                        block_map(out, fields, indent + 2);
                    }
                    item => block_value(out, item, indent),
                }
            }
        }
        scalar => {
            out.push(' ');
            match scalar {
                Json::String(text) => scalar_text(out, text),
                Json::Object(_) => out.push_str("{}"),
                Json::Array(_) => out.push_str("[]"),
                other => out.push_str(&other.to_string()),
            }
            out.push('\n');
        }
    }
}

fn pad(out: &mut String, indent: usize) {
    out.extend(std::iter::repeat_n(' ', indent));
}

/// Text without quotes where every reader of YAML takes it for text, else in double quotes.
fn scalar_text(out: &mut String, text: &str) {
    if is_safe_plain(text) {
        out.push_str(text);
        return;
    }
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            // Readers may refuse these, fold them as line breaks, or drop them as a byte order mark.
            c if c.is_control() || "\u{2028}\u{2029}\u{feff}\u{fffe}\u{ffff}".contains(c) => {
                let _ = write!(out, "\\u{:04X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

fn is_safe_plain(text: &str) -> bool {
    // Bools of YAML 1.1, which many readers still are.
    const OLD_BOOLS: [&str; 6] = ["y", "n", "yes", "no", "on", "off"];
    let first = |c: char| c.is_ascii_alphanumeric() || c == '/' || c == '_' || c == '.';
    let inner = |c: char| c.is_ascii_alphanumeric() || "/_.-+%=;()~^$@<> :?*,".contains(c);
    text.starts_with(first)
        && text.chars().all(inner)
        && !text.contains(": ")
        && !text.contains(", ")
        && !text.ends_with([' ', ':'])
        && is_plain_text(text)
        // 12:30:45 is a number of base 60 and 2026-01-01 a date in YAML 1.1; 1_000 a number.
        && !text.bytes().all(|byte| byte.is_ascii_digit() || b":-_.+".contains(&byte))
        && text != "---"
        && text != "..."
        && !OLD_BOOLS.contains(&text.to_ascii_lowercase().as_str())
}
