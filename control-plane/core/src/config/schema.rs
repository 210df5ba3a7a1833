//! JSON Schema for editors, derived from the definitions: names, forms, bounds and comments.

use std::collections::BTreeSet;

use segue_proto::API_VERSION;
use segue_proto::config::v1::Format;
use serde_json::{Map, Value, json};

use super::key::Kind;
use super::shape::{FieldShape, Form, MessageShape, shapes};

const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";

/// JSON Schema 2020-12 of one kind, or of any resource.
pub fn schema(kind: Option<Kind>) -> Value {
    let kinds: Vec<Kind> = kind.map_or_else(|| Kind::ALL.to_vec(), |kind| vec![kind]);
    let mut definitions = Map::new();
    for message in reachable(&kinds) {
        definitions.insert(message.name.clone(), message_schema(message));
    }
    let mut root = Map::new();
    root.insert("$schema".to_owned(), DIALECT.into());
    if let Some(kind) = kind {
        root.insert("title".to_owned(), kind.as_str().into());
        root.insert("$ref".to_owned(), reference(kind.as_str()));
    } else {
        root.insert("title".to_owned(), "Configuration of Segue".into());
        let each = Kind::ALL.iter().map(|kind| json!({ "$ref": reference(kind.as_str()) }));
        root.insert("oneOf".to_owned(), each.collect());
    }
    root.insert("$defs".to_owned(), Value::Object(definitions));
    Value::Object(root)
}

/// The messages of some kinds and all that they hold, each once, outer ones first.
pub(super) fn reachable(kinds: &[Kind]) -> Vec<&'static MessageShape> {
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    let mut next: Vec<&MessageShape> =
        kinds.iter().rev().filter_map(|kind| shapes().of(kind.as_str())).collect();
    while let Some(message) = next.pop() {
        if !seen.insert(message.name.as_str()) {
            continue;
        }
        found.push(message);
        next.extend(message.fields.iter().rev().filter_map(|field| match &field.form {
            Form::Message(name) => shapes().message(name),
            _ => None,
        }));
    }
    found
}

fn reference(name: &str) -> Value {
    format!("#/$defs/{name}").into()
}

fn message_schema(message: &MessageShape) -> Value {
    let kind = Kind::ALL.into_iter().find(|kind| kind.as_str() == message.name);
    let mut properties = Map::new();
    for field in &message.fields {
        let mut schema = field_schema(field);
        let constant = match (kind, field.name.as_str()) {
            (Some(_), "apiVersion") => Some(API_VERSION),
            (Some(kind), "kind") => Some(kind.as_str()),
            _ => None,
        };
        if let Some(constant) = constant {
            schema.insert("const".to_owned(), constant.into());
        }
        properties.insert(field.name.clone(), Value::Object(schema));
    }
    let mut required: Vec<&str> = message
        .fields
        .iter()
        .filter(|field| field.rule.required && field.descriptor.containing_oneof().is_none())
        .map(|field| field.name.as_str())
        .collect();
    if kind.is_some() {
        required.insert(0, "kind");
    }
    let mut schema = Map::new();
    schema.insert("description".to_owned(), message.doc.as_str().into());
    schema.insert("type".to_owned(), "object".into());
    schema.insert("properties".to_owned(), Value::Object(properties));
    schema.insert("additionalProperties".to_owned(), false.into());
    if !required.is_empty() {
        schema.insert("required".to_owned(), required.into());
    }
    let mut choices = message
        .choices
        .iter()
        .map(|choice| choice.iter().map(|name| json!({ "required": [name] })).collect::<Value>());
    match (choices.next(), choices.next()) {
        (Some(choice), None) => {
            schema.insert("oneOf".to_owned(), choice);
        }
        (Some(first), Some(second)) => {
            let all = [first, second].into_iter().chain(choices);
            let all = all.map(|choice| json!({ "oneOf": choice })).collect();
            schema.insert("allOf".to_owned(), all);
        }
        (None, _) => {}
    }
    Value::Object(schema)
}

fn field_schema(field: &FieldShape) -> Map<String, Value> {
    let mut schema = Map::new();
    schema.insert("description".to_owned(), description(field).into());
    if field.list {
        schema.insert("type".to_owned(), "array".into());
        schema.insert("items".to_owned(), Value::Object(value_schema(field)));
        if field.rule.required {
            schema.insert("minItems".to_owned(), 1.into());
        }
        schema.insert("maxItems".to_owned(), field.max_items().into());
        return schema;
    }
    schema.extend(value_schema(field));
    match field.form {
        Form::Map => {
            schema.insert("maxProperties".to_owned(), field.max_items().into());
        }
        Form::Text if field.rule.required => {
            schema.insert("minLength".to_owned(), 1.into());
        }
        _ => {}
    }
    schema
}

/// The field's comment, and that of each value of an enum.
fn description(field: &FieldShape) -> String {
    let Form::Enum(texts) = &field.form else { return field.doc.clone() };
    let values = texts.iter().map(|text| format!("\n- `{}`: {}", text.text, text.doc));
    field.doc.clone() + &values.collect::<String>()
}

fn value_schema(field: &FieldShape) -> Map<String, Value> {
    let rule = &field.rule;
    let schema = match &field.form {
        Form::Bool => json!({ "type": "boolean" }),
        Form::Integer { min, max } => {
            let min = rule.min.map_or(*min, i128::from);
            let max = rule.max.map_or(*max, i128::from);
            // What JSON's numbers cannot say exactly is left unsaid.
            match (i64::try_from(min), i64::try_from(max)) {
                (Ok(min), Ok(max)) => json!({ "type": "integer", "minimum": min, "maximum": max }),
                (Ok(min), Err(_)) => json!({ "type": "integer", "minimum": min }),
                _ => json!({ "type": "integer" }),
            }
        }
        Form::Number => match (rule.min, rule.max) {
            (Some(min), Some(max)) => json!({ "type": "number", "minimum": min, "maximum": max }),
            (Some(min), None) => json!({ "type": "number", "minimum": min }),
            (None, Some(max)) => json!({ "type": "number", "maximum": max }),
            (None, None) => json!({ "type": "number" }),
        },
        Form::Duration => {
            json!({ "type": "string", "pattern": "^([0-9]{1,5}(h|m|s|ms)){1,4}$" })
        }
        Form::Enum(texts) => {
            json!({ "enum": texts.iter().map(|text| text.text.as_str()).collect::<Vec<_>>() })
        }
        Form::Map => json!({ "type": "object", "additionalProperties": { "type": "string" } }),
        Form::Message(name) => {
            let name = shapes().message(name).map_or("", |message| message.name.as_str());
            json!({ "$ref": reference(name) })
        }
        Form::Text => match text_form(rule.format()) {
            Some((key, value)) => json!({ "type": "string", key: value }),
            None => json!({ "type": "string" }),
        },
    };
    match schema {
        Value::Object(schema) => schema,
        _ => Map::new(),
    }
}

/// Keyword and value for a format: a rough net for editors, the control plane's is the fine one.
fn text_form(format: Format) -> Option<(&'static str, &'static str)> {
    Some(match format {
        Format::Unspecified => return None,
        Format::DnsLabel => ("pattern", "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"),
        Format::Host => ("pattern", r"^(\*\.)?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$"),
        Format::HeaderName => ("pattern", r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$"),
        Format::Endpoint => ("pattern", r"^([0-9.]+|\[[0-9A-Fa-f:.]+(%[0-9]+)?\]):[0-9]{1,5}$"),
        Format::Percent => ("pattern", r"^[0-9]+(\.[0-9]*)?%$"),
        Format::Regex => ("format", "regex"),
        Format::Path => ("pattern", "^/"),
        Format::HostPort => ("pattern", "^[A-Za-z0-9._-]+:[0-9]{1,5}$"),
        Format::JsonPointer => ("format", "json-pointer"),
        Format::Method => ("pattern", r"^[A-Z0-9!#$%&'*+.^_`|~-]+$"),
    })
}
