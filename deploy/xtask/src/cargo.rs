//! Running cargo and other programs from the root of the workspace.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

/// What went wrong, said to people.
pub type Outcome<T = ()> = Result<T, String>;

/// Root of the workspace.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_owned()
}

/// Where cargo builds: two levels above this program (`TARGET/PROFILE/xtask`).
pub fn target_dir() -> Outcome<PathBuf> {
    let this = env::current_exe().map_err(|error| error.to_string())?;
    let target = this.ancestors().nth(2).ok_or("this program lies in no target directory")?;
    Ok(target.to_owned())
}

/// The cargo that runs this program.
pub fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(root());
    command
}

/// Runs to the end; a failing exit code is an error.
pub fn run(command: &mut Command) -> Outcome {
    let name = shown(command);
    let status = status(command)?;
    if status.success() { Ok(()) } else { Err(format!("{name}: {status}")) }
}

/// Runs to the end.
pub fn status(command: &mut Command) -> Outcome<ExitStatus> {
    let name = shown(command);
    command.status().map_err(|error| format!("{name}: {error}"))
}

/// Whether a program can be found.
pub fn on_path(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path)
        // Where packages put what they think only root runs.
        .chain(["/usr/sbin".into(), "/usr/local/sbin".into()])
        .map(|dir| dir.join(program))
        .find(|file| file.is_file())
}

/// Builds these packages' programs and gives the directory that holds them.
pub fn build(profile: &str, packages: &[&str]) -> Outcome<PathBuf> {
    let mut command = cargo(&["build", "--bins", "--profile", profile]);
    if packages.is_empty() {
        command.arg("--workspace");
    }
    for package in packages {
        command.args(["--package", package]);
    }
    let target = target_dir()?;
    run(command.arg("--target-dir").arg(&target))?;
    Ok(target.join(if profile == "dev" { "debug" } else { profile }))
}

fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let program = program.file_name().unwrap_or(program.as_os_str()).to_string_lossy();
    let mut text = program.into_owned();
    for argument in command.get_args() {
        text.push(' ');
        text.push_str(&argument.to_string_lossy());
    }
    text
}
