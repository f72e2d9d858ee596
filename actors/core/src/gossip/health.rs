//! Whether a module of this node is well, by its own word: when a check is due, and what its result means. It
//! does not run checks, and does not know what being unwell leads to. The rules are those of Riak Core's node
//! watcher: up at the first good check, down after `failures_max` bad ones in a row, and the longer a check
//! fails the rarer it is asked.

/// How one check ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CheckResult {
    /// It said yes.
    Passed,
    /// It said no, or nothing before its deadline.
    Failed,
    /// It broke while it was asked: that says nothing of the module, but something of the check.
    Crashed,
}

/// What the module's health has become.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HealthChange {
    /// It may be used.
    Up,
    /// It is to be left out of preference lists.
    Down,
}

/// What follows from a result.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HealthStep {
    /// What has changed, if anything.
    pub change: Option<HealthChange>,
    /// When to check next; none: no more, until [`Health::resume`].
    pub next_check_at_ms: Option<u64>,
}

/// Times and counts of health checks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HealthConfig {
    /// Between two checks of a module that is well.
    pub check_interval_ms: u64,
    /// So many bad checks in a row take a module down.
    pub failures_max: u32,
    /// So many crashes in a row take it down and end the checks.
    pub crashes_max: u32,
}

impl Default for HealthConfig {
    fn default() -> Self {
        Self { check_interval_ms: 5000, failures_max: 1, crashes_max: 3 }
    }
}

/// f^1.3 for f = 4 … 10 bad checks in a row, in hundredths.
const GROWTH_PERCENT: [u64; 7] = [606, 810, 1027, 1255, 1493, 1740, 1995];
/// From the eleventh on.
const GROWTH_PERCENT_MAX: u64 = 2000;

/// The health of one module. It begins down: nothing is known of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Health {
    config: HealthConfig,
    up: bool,
    failures: u32,
    crashes: u32,
    suspended: bool,
}

impl Health {
    /// A module whose first check is due at once.
    pub fn new(config: HealthConfig) -> Self {
        Self { config, up: false, failures: 0, crashes: 0, suspended: false }
    }

    /// Whether the module may be used.
    pub fn is_up(&self) -> bool {
        self.up
    }

    /// Takes in a check's result. While checks are suspended a late one is ignored.
    pub fn checked(&mut self, now_ms: u64, result: CheckResult) -> HealthStep {
        if self.suspended {
            return HealthStep { change: None, next_check_at_ms: None };
        }
        let was_up = self.up;
        match result {
            CheckResult::Passed => {
                self.up = true;
                self.failures = 0;
                self.crashes = 0;
            }
            CheckResult::Failed => {
                self.failures = self.failures.saturating_add(1);
                self.crashes = 0;
                self.up &= self.failures < self.config.failures_max.max(1);
            }
            CheckResult::Crashed => {
                self.crashes = self.crashes.saturating_add(1);
                if self.crashes >= self.config.crashes_max.max(1) {
                    self.up = false;
                    self.suspended = true;
                }
            }
        }
        let next_check_at_ms = (!self.suspended).then(|| now_ms.saturating_add(self.delay_ms()));
        HealthStep { change: self.change_since(was_up), next_check_at_ms }
    }

    /// Ends the checks and takes the module down, as for maintenance or overload.
    pub fn suspend(&mut self) -> HealthStep {
        let was_up = std::mem::replace(&mut self.up, false);
        self.suspended = true;
        HealthStep { change: self.change_since(was_up), next_check_at_ms: None }
    }

    /// Begins the checks anew, with one at once. Without effect when they are not suspended.
    pub fn resume(&mut self, now_ms: u64) -> HealthStep {
        if !self.suspended {
            return HealthStep { change: None, next_check_at_ms: None };
        }
        *self = Self::new(self.config);
        HealthStep { change: None, next_check_at_ms: Some(now_ms) }
    }

    fn change_since(&self, was_up: bool) -> Option<HealthChange> {
        match (was_up, self.up) {
            (false, true) => Some(HealthChange::Up),
            (true, false) => Some(HealthChange::Down),
            _ => None,
        }
    }

    fn delay_ms(&self) -> u64 {
        let percent = match self.failures {
            0..=3 => 100,
            4..=10 => GROWTH_PERCENT[self.failures as usize - 4],
            _ => GROWTH_PERCENT_MAX,
        };
        (self.config.check_interval_ms.saturating_mul(percent) / 100).max(1)
    }
}

#[cfg(test)]
mod tests;
