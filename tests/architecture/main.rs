//! The rules of the house, checked on the sources. Each rule reports everything it finds at once.

mod dependencies;
mod examples;
mod files;
mod modules;
mod source;
