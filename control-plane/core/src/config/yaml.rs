//! YAML text as a tree of nodes that know their place. JSON is read as the subset of YAML that it
//! is. Everything has a limit: depth, length of a document and of a file, and what aliases expand
//! to.

use std::collections::HashMap;
use std::rc::Rc;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle};

use super::fault::{Fault, Place};

/// Nesting of lists and maps.
pub(super) const MAX_DEPTH: usize = 128;
/// Characters of one document.
pub(super) const MAX_DOCUMENT_CHARS: usize = 1 << 20;
/// Bytes of one file.
pub(super) const MAX_FILE_BYTES: usize = 16 << 20;
/// Nodes that the aliases of one document stand for.
pub(super) const MAX_ALIAS_NODES: usize = 10_000;

/// A value and where it begins.
#[derive(Debug)]
pub(super) struct Node {
    pub mark: Mark,
    pub content: Content,
    /// Nodes of the tree below and including this one, aliases expanded.
    size: usize,
}

/// What a node holds.
#[derive(Debug)]
pub(super) enum Content {
    /// `plain` where it was written without quotes, so that it may be a number, a bool or null.
    Scalar {
        text: String,
        plain: bool,
    },
    List(Vec<Rc<Node>>),
    Map(Vec<Entry>),
}

/// A key and its value. A key may come twice: whoever reads the map says so.
#[derive(Debug)]
pub(super) struct Entry {
    pub key: String,
    pub key_mark: Mark,
    pub value: Rc<Node>,
}

/// Line and column, from 1. Both 0 for values that were never text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Mark {
    pub line: u32,
    pub column: u32,
}

impl Node {
    fn new(mark: Mark, content: Content) -> Self {
        let below = match &content {
            Content::Scalar { .. } => 0,
            Content::List(items) => items.iter().map(|item| item.size).sum(),
            Content::Map(entries) => entries.iter().map(|entry| entry.value.size).sum(),
        };
        Self { mark, content, size: below + 1 }
    }

    /// Whether it says nothing: `null`, `~`, or nothing at all.
    pub fn is_null(&self) -> bool {
        matches!(&self.content, Content::Scalar { text, plain: true }
            if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    /// The text of a scalar that is not null.
    pub fn text(&self) -> Option<&str> {
        match &self.content {
            Content::Scalar { text, .. } if !self.is_null() => Some(text),
            _ => None,
        }
    }

    /// The value of the first entry of this name.
    pub fn get(&self, key: &str) -> Option<&Rc<Node>> {
        match &self.content {
            Content::Map(entries) => {
                entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value)
            }
            _ => None,
        }
    }

    /// The tree of a JSON value, every node of which stands at `mark`.
    pub fn from_json(value: &serde_json::Value, mark: Mark) -> Self {
        use serde_json::Value;
        let scalar = |text: String, plain| Content::Scalar { text, plain };
        let content = match value {
            Value::Null => scalar("null".to_owned(), true),
            Value::Bool(bool) => scalar(bool.to_string(), true),
            Value::Number(number) => scalar(number.to_string(), true),
            Value::String(text) => scalar(text.clone(), false),
            Value::Array(items) => Content::List(
                items.iter().map(|item| Rc::new(Self::from_json(item, mark))).collect(),
            ),
            Value::Object(entries) => Content::Map(
                entries
                    .iter()
                    .map(|(key, value)| Entry {
                        key: key.clone(),
                        key_mark: mark,
                        value: Rc::new(Self::from_json(value, mark)),
                    })
                    .collect(),
            ),
        };
        Self::new(mark, content)
    }
}

/// The documents of a file, and the fault that ended the reading where there was one. Empty
/// documents are left out.
pub(super) fn read(file: &str, content: &str) -> (Vec<Rc<Node>>, Option<Fault>) {
    let mut documents = Vec::new();
    let content = content.strip_prefix('\u{feff}').unwrap_or(content);
    let start = Mark { line: 1, column: 1 };
    let end = if content.len() > MAX_FILE_BYTES {
        Err(Stop::new(start, "the file is longer than 16 MiB", "split it into several files"))
    } else {
        read_stream(content, &mut documents)
    };
    // JSON is YAML but for escapes of characters beyond 16 bits (`\ud83d\ude00`), as many writers of
    // JSON put them. Places are lost then.
    if end.is_err()
        && content.len() <= MAX_DOCUMENT_CHARS
        && content.contains("\\u")
        && let Ok(value @ serde_json::Value::Object(_)) = serde_json::from_str(content)
    {
        return (vec![Rc::new(Node::from_json(&value, start))], None);
    }
    let fault = end.err().map(|stop| Fault {
        place: Some(Place {
            file: file.to_owned(),
            line: stop.mark.line,
            column: stop.mark.column,
        }),
        message: stop.message,
        hint: stop.hint.to_owned(),
        ..Fault::default()
    });
    (documents, fault)
}

/// Why reading ended before the end.
struct Stop {
    mark: Mark,
    message: String,
    hint: &'static str,
}

impl Stop {
    fn new(mark: Mark, message: impl Into<String>, hint: &'static str) -> Self {
        Self { mark, message: message.into(), hint }
    }
}

fn read_stream(content: &str, documents: &mut Vec<Rc<Node>>) -> Result<(), Stop> {
    let mut tree = Tree::default();
    let mut document_start = 0;
    for event in Parser::new_from_str(content) {
        let (event, span) = event.map_err(|error| {
            Stop::new(mark(error.marker()), format!("not valid YAML: {}", error.info()), "")
        })?;
        let at = mark(&span.start);
        if span.end.index().saturating_sub(document_start) > MAX_DOCUMENT_CHARS {
            return Err(Stop::new(
                at,
                "the document is longer than 1 MiB",
                "split it into several resources",
            ));
        }
        match event {
            Event::DocumentStart(_) => {
                document_start = span.start.index();
                tree = Tree::default();
            }
            Event::DocumentEnd => {
                documents.extend(tree.root.take().filter(|root| !root.is_null()));
            }
            event => tree.add(event, at)?,
        }
    }
    Ok(())
}

/// A document as it grows.
#[derive(Default)]
struct Tree {
    root: Option<Rc<Node>>,
    open: Vec<Open>,
    anchors: HashMap<usize, Rc<Node>>,
    alias_nodes: usize,
}

/// A list or map whose end has not come yet.
struct Open {
    mark: Mark,
    anchor: usize,
    children: Children,
}

enum Children {
    List(Vec<Rc<Node>>),
    Map { entries: Vec<Entry>, key: Option<(String, Mark)> },
}

impl Tree {
    fn add(&mut self, event: Event<'_>, mark: Mark) -> Result<(), Stop> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                refuse_tag(tag.is_some(), mark)?;
                let plain = style == ScalarStyle::Plain;
                let content = Content::Scalar { text: text.into_owned(), plain };
                self.close(Node::new(mark, content), anchor)
            }
            Event::SequenceStart(anchor, tag) => {
                refuse_tag(tag.is_some(), mark)?;
                self.open(Open { mark, anchor, children: Children::List(Vec::new()) })
            }
            Event::MappingStart(anchor, tag) => {
                refuse_tag(tag.is_some(), mark)?;
                let children = Children::Map { entries: Vec::new(), key: None };
                self.open(Open { mark, anchor, children })
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(open) = self.open.pop() else { return Ok(()) };
                let content = match open.children {
                    Children::List(items) => Content::List(items),
                    Children::Map { entries, .. } => Content::Map(entries),
                };
                self.close(Node::new(open.mark, content), open.anchor)
            }
            Event::Alias(anchor) => {
                let Some(node) = self.anchors.get(&anchor).cloned() else {
                    return Err(Stop::new(mark, "an alias that stands inside its own anchor", ""));
                };
                self.alias_nodes = self.alias_nodes.saturating_add(node.size);
                if self.alias_nodes > MAX_ALIAS_NODES {
                    return Err(Stop::new(
                        mark,
                        "the aliases of this document stand for more than 10,000 values",
                        "write the values out, or split the document",
                    ));
                }
                self.attach(node)
            }
            _ => Ok(()),
        }
    }

    fn open(&mut self, open: Open) -> Result<(), Stop> {
        if self.open.len() >= MAX_DEPTH {
            return Err(Stop::new(open.mark, "nested deeper than 128 levels", ""));
        }
        self.refuse_as_key(open.mark)?;
        self.open.push(open);
        Ok(())
    }

    fn close(&mut self, node: Node, anchor: usize) -> Result<(), Stop> {
        let node = Rc::new(node);
        // 0 is the parser's word for "no anchor".
        if anchor != 0 {
            self.anchors.insert(anchor, Rc::clone(&node));
        }
        self.attach(node)
    }

    fn attach(&mut self, node: Rc<Node>) -> Result<(), Stop> {
        let Some(parent) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        match &mut parent.children {
            Children::List(items) => items.push(node),
            Children::Map { entries, key } => match key.take() {
                Some((key, key_mark)) => entries.push(Entry { key, key_mark, value: node }),
                None => match &node.content {
                    Content::Scalar { text, .. } => *key = Some((text.clone(), node.mark)),
                    _ => return Err(complex_key(node.mark)),
                },
            },
        }
        Ok(())
    }

    /// A list or map where the parent waits for a key.
    fn refuse_as_key(&self, mark: Mark) -> Result<(), Stop> {
        match self.open.last() {
            Some(Open { children: Children::Map { key: None, .. }, .. }) => Err(complex_key(mark)),
            _ => Ok(()),
        }
    }
}

fn complex_key(mark: Mark) -> Stop {
    Stop::new(mark, "a list or a map as a key", "keys are names of fields; quote text with braces")
}

fn refuse_tag(tagged: bool, mark: Mark) -> Result<(), Stop> {
    if tagged {
        return Err(Stop::new(mark, "YAML tags (`!…`) have no meaning here", "remove the tag"));
    }
    Ok(())
}

fn mark(marker: &Marker) -> Mark {
    Mark { line: marker.line() as u32, column: marker.col() as u32 + 1 }
}
