//! Settings of a process: file < environment < flag.
//!
//! A process declares its settings once, as a `clap` parser whose arguments have `env`. The file
//! named by `--settings` (or `SEGUE_SETTINGS`) is a flat YAML or JSON map whose keys are the long
//! flags, with or without camelCase; its values become the defaults that environment and flags
//! override.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;

use clap::{Arg, ArgAction, CommandFactory, FromArgMatches};
use serde_json::Value;
use thiserror::Error;

/// Settings that cannot be used.
#[derive(Debug, Error)]
pub enum SettingsError {
    /// `--help`, `--version` or a wrong flag; prints itself.
    #[error(transparent)]
    Usage(#[from] clap::Error),
    #[error("settings file {file}: {reason}")]
    File { file: String, reason: String },
}

impl SettingsError {
    /// Prints what is wrong, or the help that was asked for, and gives the exit code.
    pub fn report(&self) -> u8 {
        match self {
            Self::Usage(error) => {
                // Nothing is left to do where even the terminal is gone.
                let _ = error.print();
                u8::try_from(error.exit_code()).unwrap_or(2)
            }
            Self::File { .. } => {
                eprintln!("error: {self}");
                2
            }
        }
    }
}

/// Parses the settings of this process from file, environment and `args` (the first is the
/// program's name).
pub fn parse<T: CommandFactory + FromArgMatches>(
    args: impl IntoIterator<Item = OsString>,
) -> Result<T, SettingsError> {
    let args: Vec<OsString> = args.into_iter().collect();
    let mut command = with_settings_flag(T::command());
    if let Some(file) = settings_file(&args) {
        let known: Vec<(String, String, bool)> = command
            .get_arguments()
            .filter_map(|arg| {
                let long = arg.get_long()?.to_owned();
                let many = matches!(arg.get_action(), ArgAction::Append);
                Some((arg.get_id().to_string(), long, many))
            })
            .collect();
        for (key, values) in read(&file)? {
            let long = kebab(&key);
            let Some((id, _, many)) = known.iter().find(|(_, known, _)| *known == long) else {
                let mut names = String::new();
                for (_, name, _) in &known {
                    let _ = write!(names, " {name}");
                }
                return Err(SettingsError::File {
                    file,
                    reason: format!("unknown key {key:?}; known:{names}"),
                });
            };
            if values.len() != 1 && !many {
                return Err(SettingsError::File {
                    file,
                    reason: format!("key {key:?} takes one value, found {}", values.len()),
                });
            }
            command = command.mut_arg(id, |arg| arg.required(false).default_values(values));
        }
    }
    let mut matches = command.try_get_matches_from(args)?;
    Ok(T::from_arg_matches_mut(&mut matches)?)
}

fn with_settings_flag(command: clap::Command) -> clap::Command {
    command.arg(
        Arg::new("settings")
            .long("settings")
            .env("SEGUE_SETTINGS")
            .value_name("FILE")
            .help("File with settings: a YAML or JSON map from flag names to values"),
    )
}

/// The file is needed before the rest can be parsed, so it is looked for by hand.
fn settings_file(args: &[OsString]) -> Option<String> {
    let mut args = args.iter().skip(1).map(|arg| arg.to_string_lossy());
    while let Some(arg) = args.next() {
        if arg == "--" {
            break;
        }
        if arg == "--settings" {
            return args.next().map(std::borrow::Cow::into_owned);
        }
        if let Some(file) = arg.strip_prefix("--settings=") {
            return Some(file.to_owned());
        }
    }
    std::env::var("SEGUE_SETTINGS").ok().filter(|file| !file.is_empty())
}

fn read(file: &str) -> Result<BTreeMap<String, Vec<String>>, SettingsError> {
    let fail = |reason: String| SettingsError::File { file: file.to_owned(), reason };
    let text = fs::read_to_string(file).map_err(|error| fail(error.to_string()))?;
    let map: BTreeMap<String, Value> =
        serde_saphyr::from_str(&text).map_err(|error| fail(error.to_string()))?;
    map.into_iter()
        .map(|(key, value)| {
            let values = match value {
                Value::Array(values) => values,
                single => vec![single],
            };
            let values = values
                .into_iter()
                .map(|value| match value {
                    Value::String(text) => Ok(text),
                    Value::Bool(_) | Value::Number(_) => Ok(value.to_string()),
                    _ => Err(fail(format!("key {key:?} must be a plain value or a list of them"))),
                })
                .collect::<Result<_, _>>()?;
            Ok((key, values))
        })
        .collect()
}

/// `dataDir` and `data_dir` as `data-dir`.
fn kebab(key: &str) -> String {
    let mut kebab = String::with_capacity(key.len() + 4);
    for character in key.chars() {
        match character {
            '_' => kebab.push('-'),
            upper if upper.is_ascii_uppercase() => {
                kebab.push('-');
                kebab.push(upper.to_ascii_lowercase());
            }
            other => kebab.push(other),
        }
    }
    kebab
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Example {
        #[arg(long, default_value = "127.0.0.1:1")]
        xds_address: String,
        #[arg(long)]
        data_dir: String,
        #[arg(long)]
        insecure: bool,
    }

    fn parse_with(file: &str, args: &[&str]) -> Result<Example, SettingsError> {
        let name = format!("segue-settings-{}-{}", std::process::id(), args.len());
        let path = std::env::temp_dir().join(name);
        fs::write(&path, file).unwrap();
        let mut all = vec![OsString::from("example"), "--settings".into(), path.clone().into()];
        all.extend(args.iter().map(OsString::from));
        let parsed = parse(all);
        fs::remove_file(path).unwrap();
        parsed
    }

    #[test]
    fn a_flag_overrides_the_file_and_the_file_the_default() {
        let parsed = parse_with(
            "dataDir: /file\nxds-address: a:1\ninsecure: true",
            &["--data-dir", "/flag"],
        )
        .unwrap();
        assert_eq!((parsed.data_dir.as_str(), parsed.xds_address.as_str()), ("/flag", "a:1"));
        assert!(parsed.insecure);
    }

    #[test]
    fn an_unknown_key_names_the_known_ones() {
        let error = parse_with("dataDri: /x", &[]).unwrap_err().to_string();
        assert!(error.contains("dataDri") && error.contains("data-dir"), "{error}");
    }
}
