//! From a tree of nodes to a message, by the shapes of the descriptors. Goes on after a fault, so
//! that all of them are told at once.

use std::collections::HashMap;

use prost_reflect::{DynamicMessage, MapKey, Value};
use segue_proto::API_VERSION;
use segue_proto::config::v1::Resource;
use segue_shared::ids::DEFAULT_NAMESPACE;

use super::fault::{Fault, Faults, Place};
use super::format::{self, quoted};
use super::key::Kind;
use super::shape::{FieldShape, Form, MessageShape, shapes};
use super::source::{Parsed, SourceMap};
use super::suggest::suggest;
use super::yaml::{Content, Entry, Mark, Node};

/// Reads one document. `None` where the kind is not known; a resource with faults is returned as
/// far as it goes, and the faults forbid its use.
pub(super) fn decode(
    file: Option<&str>,
    document: &Node,
    faults: &mut Vec<Fault>,
) -> Option<Parsed> {
    let mut decoder =
        Decoder { file, resource: name_of(document), source: SourceMap::default(), faults };
    decoder.record("", document.mark);
    decoder.document(document)
}

/// The resource for messages, as far as the document says.
fn name_of(document: &Node) -> String {
    let Some(kind) = document.get("kind").and_then(|kind| kind.text()) else {
        return String::new();
    };
    let meta = document.get("metadata");
    let part = |key| meta.and_then(|meta| meta.get(key)).and_then(|part| part.text());
    match part("name") {
        Some(name) => format!("{kind} {}/{name}", part("namespace").unwrap_or(DEFAULT_NAMESPACE)),
        None => kind.to_owned(),
    }
}

/// Bytes of a key of a map: those of a label of Kubernetes, prefix included.
const MAX_KEY_BYTES: usize = 317;

/// One document on its way.
pub(super) struct Decoder<'a> {
    file: Option<&'a str>,
    resource: String,
    source: SourceMap,
    faults: &'a mut Vec<Fault>,
}

impl Decoder<'_> {
    fn document(mut self, document: &Node) -> Option<Parsed> {
        if !matches!(document.content, Content::Map(_)) {
            self.fault("", "a resource is a map with apiVersion, kind, metadata and spec", "");
            return None;
        }
        let kind = self.kind(document)?;
        let envelope = shapes().of("Resource")?;
        let shape = shapes().of(kind.as_str())?;
        let mut body = self.message(shape, document, "");
        set_default(&mut body, "kind", kind.as_str());
        self.api_version(&mut body);
        if let Some(Value::Message(meta)) = body.get_field_by_name_mut("metadata") {
            set_default(meta, "namespace", DEFAULT_NAMESPACE);
        }
        let field = envelope.fields.iter().find(
            |field| matches!(&field.form, Form::Message(name) if *name == shape.descriptor.full_name()),
        )?;
        let mut message = DynamicMessage::new(envelope.descriptor.clone());
        message.set_field(&field.descriptor, Value::Message(body));
        let resource = message.transcode_to::<Resource>().ok()?;
        Some(Parsed { resource, source: self.source })
    }

    fn kind(&mut self, document: &Node) -> Option<Kind> {
        let names = || Kind::ALL.iter().map(|kind| kind.as_str());
        let written = document.get("kind");
        if let Some(kind) = written {
            self.record("kind", kind.mark);
        }
        let Some(text) = written.and_then(|kind| kind.text()) else {
            let known = names().collect::<Vec<_>>().join(", ");
            self.fault("kind", "`kind` is missing", &format!("one of {known}"));
            return None;
        };
        let kind = Kind::ALL.into_iter().find(|kind| kind.as_str() == text);
        if kind.is_none() {
            let hint = suggest(text, names(), "kinds");
            self.fault("kind", &format!("there is no kind {}", quoted(text)), &hint);
        }
        kind
    }

    fn api_version(&mut self, body: &mut DynamicMessage) {
        set_default(body, "api_version", API_VERSION);
        let written = body.get_field_by_name("api_version");
        let written = written.as_ref().and_then(|value| value.as_str()).unwrap_or_default();
        if written != API_VERSION {
            let message = format!("this release does not know the version {}", quoted(written));
            self.fault("apiVersion", &message, &format!("write apiVersion: {API_VERSION}"));
        }
    }

    fn message(&mut self, shape: &MessageShape, node: &Node, path: &str) -> DynamicMessage {
        let mut message = DynamicMessage::new(shape.descriptor.clone());
        let Content::Map(entries) = &node.content else {
            let fields = shape.fields.iter().map(|field| field.name.as_str());
            let fields = fields.take(8).collect::<Vec<_>>().join(", ");
            let hint =
                if fields.is_empty() { "write {}".to_owned() } else { format!("with {fields}") };
            self.wrong_type(path, node, "a map", &hint);
            return message;
        };
        let mut seen: HashMap<&str, Mark> = HashMap::new();
        let mut chosen: Vec<&str> = Vec::new();
        for entry in entries {
            let field_path = join(path, &entry.key);
            if self.is_repeated(&mut seen, entry, &field_path) {
                continue;
            }
            // What is observed and not declared: `get -o json` prints it, and takes it back.
            if path.is_empty() && entry.key == "status" {
                continue;
            }
            let Some(field) = shape.field(&entry.key) else {
                let names = shape.fields.iter().map(|field| field.name.as_str());
                let hint = suggest(&entry.key, names, "fields");
                self.record(&field_path, entry.key_mark);
                self.fault(
                    &field_path,
                    &format!("there is no field {}", quoted(&entry.key)),
                    &hint,
                );
                continue;
            };
            // A key without a value says as little as no key.
            if entry.value.is_null() {
                self.record(&field_path, entry.key_mark);
                continue;
            }
            self.record_entry(&field_path, entry);
            chosen.push(field.name.as_str());
            if let Some(value) = self.field(field, &entry.value, &field_path) {
                message.set_field(&field.descriptor, value);
            }
        }
        self.choices(shape, &chosen, path);
        for field in shape.fields.iter().filter(|field| field.rule.required) {
            if !chosen.contains(&field.name.as_str()) && !is_chosen_from(shape, &field.name) {
                self.missing(field, &join(path, &field.name));
            }
        }
        message
    }

    /// Exactly one field of each choice.
    fn choices(&mut self, shape: &MessageShape, chosen: &[&str], path: &str) {
        for choice in &shape.choices {
            let there: Vec<&str> =
                choice.iter().map(String::as_str).filter(|name| chosen.contains(name)).collect();
            match there.as_slice() {
                [_] => {}
                [] => self.fault(
                    path,
                    "says none of the things of which one must be said",
                    &format!("write one of {}", choice.join(", ")),
                ),
                [first, others @ ..] => {
                    for other in others {
                        self.fault(
                            &join(path, other),
                            &format!("`{other}` and `{first}` exclude each other"),
                            &format!("write only one of {}", there.join(", ")),
                        );
                    }
                }
            }
        }
    }

    fn is_repeated<'e>(
        &mut self,
        seen: &mut HashMap<&'e str, Mark>,
        entry: &'e Entry,
        path: &str,
    ) -> bool {
        let Some(first) = seen.insert(&entry.key, entry.key_mark) else { return false };
        let fault = Fault {
            place: self.place(entry.key_mark),
            resource: self.resource.clone(),
            field_path: path.to_owned(),
            message: format!("{} is written twice", quoted(&entry.key)),
            hint: format!("first on line {}", first.line),
        };
        Faults::collect(self.faults, || fault);
        true
    }

    fn missing(&mut self, field: &FieldShape, path: &str) {
        let hint = field.doc.split_inclusive('.').next().unwrap_or_default();
        self.fault(path, "must be written", hint.trim_end_matches('.'));
    }

    fn field(&mut self, field: &FieldShape, node: &Node, path: &str) -> Option<Value> {
        if field.list {
            return self.list(field, node, path);
        }
        let value = match &field.form {
            Form::Map => self.map(field, node, path)?,
            _ => self.value(field, node, path)?,
        };
        if field.rule.required && is_empty(&value) {
            self.missing(field, path);
        }
        Some(value)
    }

    fn list(&mut self, field: &FieldShape, node: &Node, path: &str) -> Option<Value> {
        let Content::List(items) = &node.content else {
            self.wrong_type(path, node, "a list", "write [a, b], or one line with `- ` for each");
            return None;
        };
        if items.is_empty() && field.rule.required {
            self.missing(field, path);
        }
        if self.is_too_long(field, items.len(), path) {
            return None;
        }
        let mut values = Vec::with_capacity(items.len());
        for (i, item) in items.iter().enumerate() {
            let item_path = format!("{path}[{i}]");
            self.record(&item_path, item.mark);
            if item.is_null() {
                self.fault(&item_path, "an element of a list is empty", "remove the element");
            } else {
                values.extend(self.value(field, item, &item_path));
            }
        }
        Some(Value::List(values))
    }

    fn map(&mut self, field: &FieldShape, node: &Node, path: &str) -> Option<Value> {
        let Content::Map(entries) = &node.content else {
            self.wrong_type(path, node, "a map", "write {key: value}");
            return None;
        };
        if self.is_too_long(field, entries.len(), path) {
            return None;
        }
        let mut seen = HashMap::new();
        let mut map = HashMap::new();
        for entry in entries {
            let entry_path = join(path, &entry.key);
            if self.is_repeated(&mut seen, entry, &entry_path) {
                continue;
            }
            self.record_entry(&entry_path, entry);
            if entry.key.is_empty() || entry.key.len() > MAX_KEY_BYTES {
                let message = format!("a key of {} bytes", entry.key.len());
                self.fault(&entry_path, &message, &format!("from 1 to {MAX_KEY_BYTES} bytes"));
            }
            if let Some(text) = self.text(&entry.value, &entry_path) {
                map.insert(MapKey::String(entry.key.clone()), Value::String(text.to_owned()));
            }
        }
        Some(Value::Map(map))
    }

    fn is_too_long(&mut self, field: &FieldShape, len: usize, path: &str) -> bool {
        let max = field.max_items();
        if len > max {
            self.fault(path, &format!("has {len} elements"), &format!("at most {max}"));
        }
        len > max
    }

    /// One value: the field's, or one element's.
    fn value(&mut self, field: &FieldShape, node: &Node, path: &str) -> Option<Value> {
        match &field.form {
            Form::Message(name) => {
                let shape = shapes().message(name)?;
                Some(Value::Message(self.message(shape, node, path)))
            }
            Form::Bool => self.bool(node, path),
            Form::Integer { min, max } => self.integer(field, (*min, *max), node, path),
            Form::Number => self.number(field, node, path),
            Form::Enum(texts) => self.enumeration(texts, node, path),
            Form::Duration => self.duration(field, node, path),
            Form::Text => {
                let text = self.text(node, path)?;
                // An empty text is an absent one, except in a list and in a choice.
                let bare =
                    text.is_empty() && !field.list && field.descriptor.containing_oneof().is_none();
                if !bare {
                    self.good_text(format::check(field.rule.format(), text), path);
                }
                Some(Value::String(text.to_owned()))
            }
            Form::Map => None,
        }
    }

    pub(super) fn wrong_type(&mut self, path: &str, node: &Node, wanted: &str, hint: &str) {
        let found = match &node.content {
            Content::List(_) => "a list".to_owned(),
            Content::Map(_) => "a map".to_owned(),
            Content::Scalar { text, plain: false } => format!("the text {}", quoted(text)),
            Content::Scalar { text, .. } => quoted(text),
        };
        self.fault(path, &format!("{found} stands where {wanted} is needed"), hint);
    }

    pub(super) fn fault(&mut self, path: &str, message: &str, hint: &str) {
        Faults::collect(self.faults, || Fault {
            place: self.source.place(path).cloned(),
            resource: self.resource.clone(),
            field_path: path.to_owned(),
            message: message.to_owned(),
            hint: hint.to_owned(),
        });
    }

    fn place(&self, mark: Mark) -> Option<Place> {
        let file = self.file?.to_owned();
        Some(Place { file, line: mark.line, column: mark.column })
    }

    fn record(&mut self, path: &str, mark: Mark) {
        if let Some(place) = self.place(mark) {
            self.source.record(path, place);
        }
    }

    /// A short value is pointed at itself, a list or map at its name.
    fn record_entry(&mut self, path: &str, entry: &Entry) {
        let mark = match &entry.value.content {
            Content::Scalar { .. } => entry.value.mark,
            _ => entry.key_mark,
        };
        self.record(path, mark);
    }
}

/// Whether the field is one of a choice, whose absence another rule tells.
fn is_chosen_from(shape: &MessageShape, name: &str) -> bool {
    shape.choices.iter().flatten().any(|choice| choice == name)
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::String(text) => text.is_empty(),
        Value::Map(map) => map.is_empty(),
        _ => false,
    }
}

fn set_default(message: &mut DynamicMessage, field: &str, value: &str) {
    if !message.has_field_by_name(field) {
        message.set_field_by_name(field, Value::String(value.to_owned()));
    }
}

/// `spec` and `rules` make `spec.rules`; a key that is no plain word stands in brackets.
fn join(path: &str, key: &str) -> String {
    let word = (1..=64).contains(&key.len())
        && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    match (path.is_empty(), word) {
        (true, true) => key.to_owned(),
        (false, true) => format!("{path}.{key}"),
        (_, false) => {
            let short: String = key.chars().take(64).collect();
            format!("{path}[\"{}\"]", short.escape_debug())
        }
    }
}
