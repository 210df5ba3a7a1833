//! Test applications that move, end and crash while the mesh is under load.

use std::net::SocketAddr;
use std::ops::Range;
use std::time::{Duration, Instant};

use segue_tests::draws::Draws;
use segue_tests::mesh::{Application, Mesh};

use crate::config::{State, VERSIONS};

/// Longer than any call takes: then nobody needs an endpoint that left the configuration.
const LAST_CALL: Duration = Duration::from_secs(6);

/// Two applications of each version.
pub struct Apps {
    running: Vec<Vec<Application>>,
    /// Versions whose applications move.
    moving: Range<usize>,
    /// Those that are to end, and when the configuration last named them.
    leaving: Vec<(Instant, Application)>,
}

impl Apps {
    /// Starts them; those of `moving` are named by nothing but the configuration at random.
    pub fn start(mesh: &Mesh, moving: Range<usize>) -> Self {
        let two = |version| vec![mesh.echo(version).unwrap(), mesh.echo(version).unwrap()];
        Self { running: VERSIONS.into_iter().map(two).collect(), moving, leaving: Vec::new() }
    }

    pub fn of(&self, version: usize) -> Vec<SocketAddr> {
        self.running[version].iter().map(|app| app.address).collect()
    }

    pub fn addresses(&self) -> Vec<Vec<SocketAddr>> {
        (0..self.running.len()).map(|version| self.of(version)).collect()
    }

    /// Now and then, one that nothing names any more moves to another address, and ends a while
    /// after: nothing may still be on it.
    pub fn replace(&mut self, mesh: &Mesh, state: &State, draws: &mut Draws) {
        let version = self.moving.start + draws.below(self.moving.len() as u32) as usize;
        if draws.below(3) == 0
            && let Some(place) = (0..2).find(|place| !state.names(version, *place))
        {
            let new = mesh.echo(VERSIONS[version]).unwrap();
            let old = std::mem::replace(&mut self.running[version][place], new);
            self.leaving.push((Instant::now(), old));
        }
        // Dropped, which kills it.
        self.leaving.retain(|(since, _)| since.elapsed() < LAST_CALL);
    }

    /// One dies in the middle of what it does, and is back at the same address after a while.
    pub fn crash(&mut self, mesh: &Mesh, draws: &mut Draws) {
        let version = draws.below(VERSIONS.len() as u32) as usize;
        let away = Duration::from_millis(u64::from(draws.below(1500)));
        self.crash_one(mesh, version, draws.below(2) as usize, away);
    }

    /// A certain one does, for so long.
    pub fn crash_one(&mut self, mesh: &Mesh, version: usize, place: usize, away: Duration) {
        let app = &mut self.running[version][place];
        app.process.kill9().unwrap();
        std::thread::sleep(away);
        *app = mesh.echo_on(VERSIONS[version], app.address).unwrap();
    }
}
