//! Checks of a `Rollout`: versions, steps, analysis.

use segue_proto::config::v1::analysis::check::Check;
use segue_proto::config::v1::notify::To;
use segue_proto::config::v1::rollout_step::Action;
use segue_proto::config::v1::{Analysis, RolloutSpec, RolloutStep};

use super::access::is_url;
use super::format::quoted;
use super::lookup::{Scope, Services};

pub(super) fn check(scope: &mut Scope<'_>, services: &Services<'_>, spec: &RolloutSpec) {
    if let Some(service) = scope.target(services, spec.target_ref.as_ref(), "spec.targetRef") {
        scope.version(services, &service, &spec.from, "spec.from");
        scope.version(services, &service, &spec.to, "spec.to");
    }
    if spec.from == spec.to {
        scope.fault("spec.to", format!("from `{}` to itself", spec.from), "name two versions");
    }
    check_steps(scope, &spec.steps);
    if let Some(analysis) = &spec.analysis {
        check_analysis(scope, analysis);
    }
    for (i, notify) in spec.notify.iter().enumerate() {
        let (field, url) = match &notify.to {
            Some(To::Webhook(url)) => ("webhook", url),
            Some(To::Slack(url)) => ("slack", url),
            None => continue,
        };
        check_url(scope, url, &format!("spec.notify[{i}].{field}"));
    }
}

fn check_steps(scope: &mut Scope<'_>, steps: &[RolloutStep]) {
    let mut highest = 0.0;
    for (i, step) in steps.iter().enumerate() {
        let Some(Action::Weight(weight)) = step.action else { continue };
        if weight < highest {
            scope.fault(
                &format!("spec.steps[{i}].weight"),
                format!("the weight falls from {highest} to {weight}"),
                "weights never fall: users would be thrown back",
            );
        }
        highest = f64::max(highest, weight);
    }
}

fn check_analysis(scope: &mut Scope<'_>, analysis: &Analysis) {
    // 1 would need endless samples, and below one half a coin is the better judge.
    if let Some(confidence) = analysis.confidence
        && !(0.5..1.0).contains(&confidence)
    {
        scope.fault(
            "spec.analysis.confidence",
            format!("{confidence} is out of range"),
            "from 0.5 to below 1, such as 0.99",
        );
    }
    for (i, check) in analysis.checks.iter().enumerate() {
        let path = format!("spec.analysis.checks[{i}]");
        match &check.check {
            Some(Check::ErrorRate(it)) if it.max.is_empty() && it.max_increase.is_empty() => {
                scope.fault(&format!("{path}.errorRate"), NO_LIMIT, "write maxIncrease or max");
            }
            Some(Check::Latency(it)) => {
                if it.max.is_none() && it.max_increase.is_empty() {
                    scope.fault(&format!("{path}.latency"), NO_LIMIT, "write maxIncrease or max");
                }
                if it.quantile.is_some_and(|quantile| !(quantile > 0.0 && quantile < 1.0)) {
                    scope.fault(
                        &format!("{path}.latency.quantile"),
                        "the quantile is out of range",
                        "above 0 and below 1, such as 0.99",
                    );
                }
            }
            Some(Check::Prometheus(it)) => {
                let path = format!("{path}.prometheus");
                check_url(scope, &it.address, &format!("{path}.address"));
                match (it.min, it.max) {
                    (None, None) => scope.fault(&path, NO_LIMIT, "write min or max"),
                    (Some(min), Some(max)) if min > max => scope.fault(
                        &format!("{path}.min"),
                        "no result could be good",
                        "min is at most max",
                    ),
                    _ => {}
                }
            }
            Some(Check::Webhook(it)) => {
                check_url(scope, &it.url, &format!("{path}.webhook.url"));
            }
            _ => {}
        }
    }
}

const NO_LIMIT: &str = "the check has no limit and would always pass";

fn check_url(scope: &mut Scope<'_>, url: &str, path: &str) {
    if !is_url(url) {
        scope.fault(
            path,
            format!("{} is not an address", quoted(url)),
            "begins with https:// or http://",
        );
    }
}
