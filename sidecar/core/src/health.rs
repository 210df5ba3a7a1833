//! Active health: what a row of probes says of an endpoint. The first probe decides; later it takes
//! a few of a kind to change the mind (Envoy's thresholds).

/// Probes in a row that change the mind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// Good ones. Default 1.
    pub healthy: u32,
    /// Bad ones. Default 3.
    pub unhealthy: u32,
}

/// What is known of an endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Probed {
    /// `None` before the first probe.
    healthy: Option<bool>,
    /// Probes in a row that say the opposite.
    against: u32,
}

impl Probed {
    /// Whether it may serve. One that was never probed may not.
    pub fn is_healthy(self) -> bool {
        self.healthy == Some(true)
    }

    /// What is known after one more probe.
    #[must_use]
    pub fn and(self, good: bool, thresholds: Thresholds) -> Self {
        let needed = if good { thresholds.healthy } else { thresholds.unhealthy };
        match self.healthy {
            Some(healthy) if healthy == good => Self { against: 0, ..self },
            Some(_) if self.against + 1 < needed => Self { against: self.against + 1, ..self },
            _ => Self { healthy: Some(good), against: 0 },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_probe_decides_and_later_a_row_does() {
        let thresholds = Thresholds { healthy: 2, unhealthy: 3 };
        let after = |probes: &str| {
            let probe = |known: Probed, it| known.and(it == '+', thresholds);
            probes.chars().fold(Probed::default(), probe).is_healthy()
        };
        for (probes, healthy) in [
            ("", false),
            ("+", true),
            ("-", false),
            ("+--", true),
            ("+--+--", true),
            ("+---", false),
            ("+---+", false),
            ("+---+-+", false),
            ("+---++", true),
            ("-++", true),
        ] {
            assert_eq!(after(probes), healthy, "{probes}");
        }
    }
}
