//! How long a peer usually takes: a running estimate of one quantile in two words, without keeping samples. When
//! a read has waited longer than the 95th percentile of a peer, it asks another as well.
//!
//! The estimate moves up by a step for a sample above it, down for one below, in the proportion of the quantile
//! (Ma, Muthukrishnan, Sandler: "Frugal Streaming for Estimating Quantiles", 2013, §3), with steps that are a
//! fraction of the estimate, since latencies spread over orders of magnitude.

/// An estimate of the 95th percentile, in microseconds.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct LatencyEstimate {
    micros: f32,
}

/// Part of itself by which the estimate rises at a sample above it.
const RISE: f32 = 0.095;
/// Part of itself by which it falls at one below: in balance when one of twenty samples lies above.
const FALL: f32 = 0.005;
const MICROS_MIN: f32 = 50.0;
const MICROS_MAX: f32 = 10_000_000.0;

impl LatencyEstimate {
    /// Before anything was measured.
    pub fn new(micros: u32) -> Self {
        Self { micros: (micros as f32).clamp(MICROS_MIN, MICROS_MAX) }
    }

    /// Takes in a sample.
    pub fn observe(&mut self, micros: u64) {
        let factor = if micros as f32 > self.micros { 1.0 + RISE } else { 1.0 - FALL };
        self.micros = (self.micros * factor).clamp(MICROS_MIN, MICROS_MAX);
    }

    /// The estimate, in microseconds.
    pub fn micros(&self) -> u64 {
        self.micros as u64
    }

    /// As bits that fit into an atomic.
    pub fn to_bits(self) -> u32 {
        self.micros.to_bits()
    }

    /// From such bits.
    pub fn from_bits(bits: u32) -> Self {
        let micros = f32::from_bits(bits);
        Self { micros: if micros.is_finite() { micros.clamp(MICROS_MIN, MICROS_MAX) } else { MICROS_MAX } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Latencies of 1 to 100 ms, evenly: the 95th percentile is 95 ms.
    #[test]
    fn the_estimate_comes_near_the_ninety_fifth_percentile_from_either_side() {
        for start in [100, 5_000_000] {
            let mut estimate = LatencyEstimate::new(start);
            let mut seed = 12_345_u64;
            for _ in 0..20_000 {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                estimate.observe(1000 + (seed >> 33) % 99_000);
            }
            let micros = estimate.micros();
            assert!((80_000..=110_000).contains(&micros), "{micros} from {start}");
        }
    }

    #[test]
    fn bits_carry_it_and_nonsense_is_bounded() {
        let mut estimate = LatencyEstimate::new(1000);
        estimate.observe(u64::MAX);
        assert_eq!(LatencyEstimate::from_bits(estimate.to_bits()), estimate);
        assert_eq!(LatencyEstimate::from_bits(f32::NAN.to_bits()).micros(), MICROS_MAX as u64);
    }
}
