//! What a request asks for behind the question mark, in Riak's words: quorums, times, truths. It decides what is wrong
//! with a value, in the words that Riak's clients know; a parameter that it does not know is left alone, as Riak does.

use super::fault::Fault;
use super::path;
use ringwork_core::quorum::Count;
use ringwork_kv::SyncOnWrite;
use ringwork_kv::request::Quorums;
use std::time::Duration;

/// Parameters that are looked at; more than there are.
const PARAMETERS_MAX: usize = 64;
/// Replicas or nodes that can be asked for at all.
const NUMBER_MAX: u64 = 1000;

/// A query string.
pub(super) struct Parameters(Vec<(String, String)>);

impl Parameters {
    /// Of a query string as it stands in the request. Where a name stands twice the first counts.
    pub(super) fn of(raw: &str) -> Result<Self, Fault> {
        let mut found = Vec::new();
        for pair in raw.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let text = |raw| String::from_utf8(path::decode(raw)?).map_err(|_| not_utf8());
            found.push((text(name)?, text(value)?));
            if found.len() > PARAMETERS_MAX {
                let text = format!("the query has more than {PARAMETERS_MAX} parameters");
                return Err(Fault::bad_request(text));
            }
        }
        Ok(Self(found))
    }

    /// A value.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// A truth; false where it is not said.
    pub(super) fn is(&self, name: &'static str) -> Result<bool, Fault> {
        Ok(self.truth(name)?.unwrap_or(false))
    }

    fn truth(&self, name: &'static str) -> Result<Option<bool>, Fault> {
        match self.get(name) {
            None | Some("default") => Ok(None),
            Some(text) if text.eq_ignore_ascii_case("true") || text == "1" => Ok(Some(true)),
            Some(text) if text.eq_ignore_ascii_case("false") || text == "0" => Ok(Some(false)),
            Some(_) => Err(Fault::bad_request(format!("{name} query parameter must be true or false"))),
        }
    }

    fn count(&self, name: &'static str) -> Result<Option<Count>, Fault> {
        let Some(text) = self.get(name).filter(|text| *text != "default") else { return Ok(None) };
        text.parse().map(Some).map_err(|_| {
            Fault::bad_request(format!(
                "{name} query parameter must be an integer or one of the following words: 'one', 'quorum' or 'all'"
            ))
        })
    }

    fn number(&self, name: &'static str) -> Result<Option<usize>, Fault> {
        let Some(text) = self.get(name).filter(|text| *text != "default") else { return Ok(None) };
        let number = text.parse::<u64>().ok().filter(|number| *number <= NUMBER_MAX);
        let wrong = || Fault::bad_request(format!("{name} query parameter must be an integer"));
        number.map(|number| Some(number as usize)).ok_or_else(wrong)
    }

    /// The quorums that are asked for.
    pub(super) fn quorums(&self) -> Result<Quorums, Fault> {
        let sync_on_write = match self.get("sync_on_write") {
            None | Some("default") => None,
            Some("backend") => Some(SyncOnWrite::Backend),
            Some("one") => Some(SyncOnWrite::One),
            Some("all") => Some(SyncOnWrite::All),
            Some(_) => {
                let text =
                    "sync_on_write query parameter must be one of the words 'backend', 'one' and 'all'";
                return Err(Fault::bad_request(text));
            }
        };
        Ok(Quorums {
            n_val: self.number("n_val")?,
            r: self.count("r")?,
            w: self.count("w")?,
            dw: self.count("dw")?,
            rw: self.count("rw")?,
            pr: self.count("pr")?,
            pw: self.count("pw")?,
            node_confirms: self.number("node_confirms")?,
            notfound_ok: self.truth("notfound_ok")?,
            basic_quorum: self.truth("basic_quorum")?,
            sync_on_write,
            sloppy: self.truth("sloppy_quorum")?,
        })
    }

    /// The time that is asked for, at most `max`.
    pub(super) fn timeout(&self, default: Duration, max: Duration) -> Result<Duration, Fault> {
        let Some(text) = self.get("timeout") else { return Ok(default) };
        match text.parse::<u64>() {
            Ok(ms @ 1..) => Ok(Duration::from_millis(ms).min(max)),
            _ => {
                let shown: String = text.chars().take(40).collect();
                Err(Fault::bad_request(format!("Bad timeout value {shown:?}")))
            }
        }
    }
}

fn not_utf8() -> Fault {
    Fault::bad_request("the query is not UTF-8 once its percent-encoding is decoded")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(raw: &str) -> Parameters {
        Parameters::of(raw).unwrap()
    }

    #[test]
    fn quorums_are_numbers_or_words() {
        let asked =
            of("r=1&w=quorum&dw=all&pr=one&pw=0&rw=default&node_confirms=2&notfound_ok=False&foo=bar");
        let quorums = asked.quorums().unwrap();
        assert_eq!(
            (quorums.r, quorums.w, quorums.dw),
            (Some(Count::Exactly(1)), Some(Count::Quorum), Some(Count::All))
        );
        assert_eq!((quorums.pr, quorums.pw, quorums.rw), (Some(Count::One), Some(Count::Exactly(0)), None));
        assert_eq!(
            (quorums.node_confirms, quorums.notfound_ok, quorums.basic_quorum),
            (Some(2), Some(false), None)
        );
        assert_eq!(of("").quorums().unwrap(), Quorums::default());
    }

    #[test]
    fn what_is_wrong_is_said_as_riak_says_it() {
        let text = |raw: &str| of(raw).quorums().unwrap_err().text;
        let words =
            "query parameter must be an integer or one of the following words: 'one', 'quorum' or 'all'";
        for name in ["r", "w", "dw", "rw", "pr", "pw"] {
            assert_eq!(text(&format!("{name}=jimmy")), format!("{name} {words}"));
            assert_eq!(text(&format!("{name}=-1")), format!("{name} {words}"));
        }
        assert_eq!(text("node_confirms=all"), "node_confirms query parameter must be an integer");
        assert_eq!(text("basic_quorum=maybe"), "basic_quorum query parameter must be true or false");
        assert!(text("sync_on_write=two").contains("'backend'"));
        let minute = Duration::from_secs(60);
        let timeout = |raw: &str| of(raw).timeout(minute, 2 * minute).map_err(|fault| fault.text);
        assert_eq!(timeout("timeout=abc"), Err("Bad timeout value \"abc\"".to_owned()));
        assert_eq!(timeout("timeout=0"), Err("Bad timeout value \"0\"".to_owned()));
        assert_eq!(timeout("timeout=250"), Ok(Duration::from_millis(250)));
        assert_eq!(timeout("timeout=99999999999"), Ok(2 * minute));
        assert_eq!(timeout(""), Ok(minute));
    }

    #[test]
    fn a_query_is_decoded_and_bounded() {
        assert_eq!(of("a=%41+b&a=c").get("a"), Some("A b"));
        assert_eq!(of("vtag").get("vtag"), Some(""));
        assert!(of("returnbody=true").is("returnbody").unwrap() && !of("").is("returnbody").unwrap());
        assert!(Parameters::of("a=%4").is_err() && Parameters::of("a=%ff").is_err());
        assert!(Parameters::of(&"a=1&".repeat(PARAMETERS_MAX + 1)).is_err());
    }
}
