//! The reference of the configuration as Markdown, derived from the definitions as the schema is.

use std::fmt::Write as _;

use segue_proto::config::v1::Format;

use super::format::print_duration;
use super::key::Kind;
use super::schema::reachable;
use super::shape::{FieldShape, Form, MessageShape, shapes};

/// Every kind and all that it holds: one section a message, one line a field.
pub fn reference() -> String {
    let mut text = "# Configuration of Segue\n".to_owned();
    for message in reachable(&Kind::ALL) {
        section(&mut text, message);
    }
    text
}

fn section(out: &mut String, message: &MessageShape) {
    let level = if Kind::parse(&message.name).is_some() { "##" } else { "###" };
    let _ = write!(out, "\n{level} {}\n\n{}\n", message.name, message.doc);
    for choice in &message.choices {
        let _ = write!(out, "\nExactly one of `{}`.\n", choice.join("`, `"));
    }
    if message.fields.is_empty() {
        return;
    }
    out.push_str("\n| field | value | meaning |\n|---|---|---|\n");
    for field in &message.fields {
        let required = if field.rule.required { " **Required.**" } else { "" };
        let _ = writeln!(
            out,
            "| `{}` | {} | {}{required} |",
            field.name,
            value(field).replace('|', "\\|"),
            field.doc.replace('|', "\\|"),
        );
    }
}

fn value(field: &FieldShape) -> String {
    let one = match &field.form {
        Form::Bool => "`true` or `false`".to_owned(),
        Form::Integer { min, max } => {
            let min = field.rule.min.map_or(*min, i128::from);
            let max = field.rule.max.map_or(*max, i128::from);
            format!("whole number, {min} to {max}")
        }
        Form::Number => match (field.rule.min, field.rule.max) {
            (Some(min), Some(max)) => format!("number, {min} to {max}"),
            _ => "number".to_owned(),
        },
        Form::Duration => match (field.rule.min, field.rule.max) {
            (Some(min), Some(max)) => format!("duration, {} to {}", time(min), time(max)),
            _ => "duration".to_owned(),
        },
        Form::Enum(texts) => texts
            .iter()
            .map(|text| format!("`{}`: {}", text.text, text.doc))
            .collect::<Vec<_>>()
            .join("<br>"),
        Form::Map => "map of text to text".to_owned(),
        Form::Message(name) => {
            let name = shapes().message(name).map_or("", |message| message.name.as_str());
            // As forges make anchors of headings: lower case, without punctuation.
            format!("[{name}](#{})", name.to_ascii_lowercase().replace('.', ""))
        }
        Form::Text => text(field.rule.format()).to_owned(),
    };
    if field.list { format!("list, at most {}: {one}", field.max_items()) } else { one }
}

fn time(millis: i64) -> String {
    print_duration(millis / 1000, (millis % 1000) as i32 * 1_000_000)
}

fn text(format: Format) -> &'static str {
    match format {
        Format::Unspecified => "text",
        Format::DnsLabel => "DNS label",
        Format::Host => "host name",
        Format::HeaderName => "name of a header or cookie",
        Format::Endpoint => "`IP:port`",
        Format::Percent => "percentage",
        Format::Regex => "regular expression (RE2)",
        Format::Path => "path",
        Format::HostPort => "`host:port`",
        Format::JsonPointer => "JSON pointer",
        Format::Method => "HTTP method",
    }
}
