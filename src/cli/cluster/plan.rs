//! A plan as a person reads it before committing. It decides the order: what was asked for, what it means for
//! each member, what moves, what will not be ideal.

use super::violations::{Alike, violations};
use super::{change_line, explanation};
use crate::cli::client::{CliError, write_line};
use crate::cli::table::{Align, Table, counted, percent};
use ringwork_runtime::administration::PlanStatus;
use std::io::Write;

pub(super) fn write(plan: &PlanStatus, output: &mut dyn Write) -> Result<(), CliError> {
    let mut line = |text: &str| write_line(output, text);
    line(&format!("a commit would begin epoch {} with these changes:", plan.epoch))?;
    for change in &plan.changes {
        line(&format!("  {}", change_line(change)))?;
    }
    line("")?;
    write_shares(plan, output)?;

    let mut line = |text: &str| write_line(output, text);
    line("")?;
    for moved in &plan.moves {
        let (from, to) = (explanation(&moved.from), explanation(&moved.to));
        line(&format!("{from} → {to}: {}", counted(moved.partitions.len(), "partition", "partitions")))?;
    }
    line(&match plan.moved {
        0 => "no partition moves".to_owned(),
        moved => format!(
            "{} (at least {} must)",
            counted(moved, "partition moves", "partitions move"),
            plan.moved_bound
        ),
    })?;
    for taken in &plan.forced {
        let (from, to) = (explanation(&taken.from), explanation(&taken.to));
        let count = counted(taken.partitions.len(), "partition", "partitions");
        line(&format!("{to} has {count} of {from} at once, without the data"))?;
    }
    let size = plan.shares.iter().map(|share| share.after).sum();
    let nodes = plan.shares.iter().filter(|share| share.after > 0).count();
    for sentence in [
        violations(&plan.node_violations, size, Alike::Node { nodes }),
        violations(&plan.location_violations, size, Alike::Location),
    ]
    .into_iter()
    .flatten()
    {
        line(&sentence)?;
    }
    plan.warnings.iter().try_for_each(|warning| line(&format!("warning: {}", explanation(warning))))
}

fn write_shares(plan: &PlanStatus, output: &mut dyn Write) -> Result<(), CliError> {
    let (before, after): (usize, usize) =
        (plan.shares.iter().map(|s| s.before).sum(), plan.shares.iter().map(|s| s.after).sum());
    let share = |part: usize, whole: usize| percent(part as f64 / whole.max(1) as f64);
    let mut table = Table::new(&[
        ("node", Align::Left),
        ("status", Align::Left),
        ("partitions now", Align::Right),
        ("share", Align::Right),
        ("afterwards", Align::Right),
        ("share", Align::Right),
    ]);
    for planned in &plan.shares {
        table.row([
            planned.node.clone(),
            planned.status.clone(),
            planned.before.to_string(),
            share(planned.before, before),
            planned.after.to_string(),
            share(planned.after, after),
        ]);
    }
    table.write(output)
}
