//! Printing and reading are each other's inverse.

use proptest::prelude::*;
use proptest::test_runner::TestRng;
use prost_reflect::{DynamicMessage, MapKey, Value};
use segue_proto::config::v1::{Format, Resource};

use super::super::shape::{FieldShape, Form, MessageShape, shapes};
use super::super::{Kind, parse_typed, to_json, to_yaml};
use super::{CHAT, parsed, text};
use crate::config::parse;

#[test]
fn the_design_example_prints_in_block_style() {
    let printed: Vec<String> = parsed(CHAT).iter().map(|it| to_yaml(&it.resource)).collect();
    insta::assert_snapshot!(printed.join("---\n"));
}

#[test]
fn the_design_example_comes_back() {
    for it in parsed(CHAT) {
        let again = parsed(&to_yaml(&it.resource));
        assert_eq!(again[0].resource, it.resource);
        let json = parsed(&to_json(&it.resource).to_string());
        assert_eq!(json[0].resource, it.resource);
        assert_eq!(parse_typed(it.resource.clone()).unwrap().resource, it.resource);
    }
}

#[test]
fn json_of_any_layout_is_read() {
    let compact = r#"{"kind":"Service","metadata":{"name":"a","annotations":{"x":"a\/b\u00e9 \"q\""}},
        "spec":{"versions":[{"name":"v1"}]}}"#;
    let emoji = compact.replace("a\\/b", "\\ud83d\\ude00");
    assert!(to_yaml(&parsed(&emoji)[0].resource).contains("😀"));
    for content in
        [compact.to_owned(), compact.replace("        ", "\t"), format!("\n\n {compact}\n")]
    {
        let printed = to_yaml(&parsed(&content)[0].resource);
        assert!(printed.contains(r#"x: "a/bé \"q\"""#), "{printed}");
    }
}

proptest! {
    #[test]
    fn every_resource_comes_back(resource in any_resource()) {
        let typed = parse_typed(resource.clone());
        prop_assert_eq!(typed.map(|it| it.resource), Ok(resource.clone()));

        let yaml = to_yaml(&resource);
        let read = parse(&[text("a.yaml", &yaml)]).map(|mut all| all.remove(0).resource);
        prop_assert_eq!(read.as_ref(), Ok(&resource), "{}", yaml);

        let pretty = serde_json::to_string_pretty(&to_json(&resource)).unwrap();
        let read = parse(&[text("a.json", &pretty)]).map(|mut all| all.remove(0).resource);
        prop_assert_eq!(read.as_ref(), Ok(&resource), "{}", pretty);
    }
}

/// Any resource that keeps the rules of its own kind: every field, list and choice that the
/// descriptors know comes up.
pub(super) fn any_resource() -> impl Strategy<Value = Resource> {
    (0..Kind::ALL.len(), any::<u64>().no_shrink()).prop_perturb(|(kind, _), rng| {
        let kind = Kind::ALL[kind];
        let shape = shapes().of(kind.as_str()).unwrap();
        let mut body = Draw(rng).message(shape, 0);
        body.set_field_by_name("kind", Value::String(kind.to_string()));
        body.set_field_by_name("api_version", Value::String(segue_proto::API_VERSION.to_owned()));
        let meta = body.get_field_by_name_mut("metadata").unwrap().as_message_mut().unwrap();
        if !meta.has_field_by_name("namespace") {
            meta.set_field_by_name("namespace", Value::String("default".to_owned()));
        }
        let envelope = shapes().of("Resource").unwrap();
        let field = envelope.descriptor.fields().find(|field| {
            field.kind().as_message().is_some_and(|message| *message == shape.descriptor)
        });
        let mut message = DynamicMessage::new(envelope.descriptor.clone());
        message.set_field(&field.unwrap(), Value::Message(body));
        message.transcode_to().unwrap()
    })
}

/// Texts that printers and readers of YAML get wrong.
const NASTY: &[&str] = &[
    " a",
    "a ",
    "a: b",
    "a #b",
    "#a",
    "- a",
    "-",
    "?",
    "*a",
    "&a",
    "!a",
    "|",
    ">",
    "%a",
    "@a",
    "`a`",
    "'a'",
    "\"a\"",
    "{a}",
    "[a]",
    "a\nb",
    "a\n",
    "\n",
    "\t",
    "\u{0}",
    "\u{7f}",
    "\u{85}",
    "\u{a0}",
    "\u{2028}",
    "\u{feff}a",
    "null",
    "~",
    "true",
    "No",
    "y",
    "1",
    "1.0",
    "1e3",
    "0x1F",
    "0o7",
    "1_0",
    ".inf",
    ".nan",
    "12:30",
    "2026-01-01",
    "---",
    "...",
    "=",
    "<<",
    "a\\b",
    "é",
    "😀",
    "a,b",
    "a:",
    ":a",
    "1s",
    "on",
    "a: ",
    "\r\n",
    "\u{fffe}",
    "a  b",
];

struct Draw(TestRng);

impl Draw {
    fn below(&mut self, end: usize) -> usize {
        self.0.random_range(0..end)
    }

    fn message(&mut self, shape: &MessageShape, depth: usize) -> DynamicMessage {
        let mut message = DynamicMessage::new(shape.descriptor.clone());
        let picked: Vec<&str> =
            shape.choices.iter().map(|all| all[self.below(all.len())].as_str()).collect();
        for field in &shape.fields {
            let name = field.name.as_str();
            let of_choice = shape.choices.iter().flatten().any(|choice| choice == name);
            let wanted = if of_choice {
                picked.contains(&name)
            } else {
                field.rule.required || self.below(3) > 0 && depth < 6
            };
            if wanted {
                let value = self.field(field, depth);
                message.set_field(&field.descriptor, value);
            }
        }
        message
    }

    fn field(&mut self, field: &FieldShape, depth: usize) -> Value {
        if field.list {
            let len = usize::from(field.rule.required) + self.below(3);
            return Value::List((0..len).map(|_| self.value(field, depth)).collect());
        }
        self.value(field, depth)
    }

    fn value(&mut self, field: &FieldShape, depth: usize) -> Value {
        let min = field.rule.min.unwrap_or(0);
        match &field.form {
            Form::Message(name) => {
                Value::Message(self.message(shapes().message(name).unwrap(), depth + 1))
            }
            Form::Bool => Value::Bool(self.below(2) > 0),
            Form::Integer { max, .. } => {
                let max =
                    field.rule.max.unwrap_or(i64::MAX).min(i64::try_from(*max).unwrap_or(i64::MAX));
                let number = self.0.random_range(min..=max);
                match field.descriptor.kind() {
                    prost_reflect::Kind::Uint32 => Value::U32(number as u32),
                    _ => Value::U64(number as u64),
                }
            }
            Form::Number => {
                let max = field.rule.max.unwrap_or(1000) as f64;
                let number = self.0.random_range(0.0..=max);
                Value::F64(if self.below(2) > 0 { number.trunc() } else { number })
            }
            Form::Duration => {
                let max = field.rule.max.unwrap_or(86_400_000);
                let millis = self.0.random_range(min..=max);
                let descriptor = field.descriptor.kind().as_message().unwrap().clone();
                let mut message = DynamicMessage::new(descriptor);
                message.set_field_by_number(1, Value::I64(millis / 1000));
                message.set_field_by_number(2, Value::I32((millis % 1000 * 1_000_000) as i32));
                Value::Message(message)
            }
            Form::Enum(texts) => Value::EnumNumber(texts[self.below(texts.len())].number),
            Form::Map => {
                let keys = self.below(3) + usize::from(field.rule.required);
                let entries = (0..keys).map(|i| {
                    let key = format!("{i}{}", NASTY[self.below(NASTY.len())]);
                    (MapKey::String(key), Value::String(self.nasty()))
                });
                Value::Map(entries.collect())
            }
            Form::Text => Value::String(self.text(field)),
        }
    }

    fn text(&mut self, field: &FieldShape) -> String {
        let number = self.below(1000);
        match field.rule.format() {
            // `kind` of a reference and `apiVersion` are checked words, set by who asks.
            Format::Unspecified if field.rule.required => format!("x{}", self.nasty()),
            Format::Unspecified => self.nasty(),
            Format::DnsLabel => ["null", "true", "1", "no", "0x1f", "v1"][number % 6].to_owned(),
            Format::Host => format!("{number}.example.com"),
            Format::HeaderName => {
                ["x-user-id", "null", "1e3", "~", "#a", "'"][number % 6].to_owned()
            }
            Format::Endpoint => format!("[::1]:{}", number + 1),
            Format::Percent => format!("{}.{}%", number / 11, number % 10),
            Format::Regex => ["^/a: (b)", "#(x)", "^\\d+$", "a\\\\b"][number % 4].to_owned(),
            Format::Path => format!("/{number}:#"),
            Format::HostPort => format!("h{number}:80"),
            Format::JsonPointer => ["", "/a~0b", "/ : #"][number % 3].to_owned(),
            Format::Method => ["GET", "NO", "Y", "1"][number % 4].to_owned(),
        }
    }

    fn nasty(&mut self) -> String {
        let parts = self.below(3);
        (0..=parts).map(|_| NASTY[self.below(NASTY.len())]).collect()
    }
}
