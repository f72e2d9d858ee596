//! What is written down about one setting and about one section, and the form in which `schema` declares
//! them. It does not know which settings there are, nor what anybody set.

use super::kind::Kind;

/// What the names of environment variables that set something begin with. `RINGWORK_` followed by anything
/// else is not a setting: `RINGWORK_NODE` tells the command line whom to ask.
pub const ENVIRONMENT_PREFIX: &str = "RINGWORK__";
/// What stands between the levels of a key in the name of an environment variable.
pub const ENVIRONMENT_SEPARATOR: &str = "__";

/// One setting.
#[derive(Debug)]
pub struct Key {
    /// The key with its section: `http.address`.
    pub name: &'static str,
    /// What it takes.
    pub kind: Kind,
    /// Its meaning, relation to others, and a sane value with the reason, line by line.
    pub doc: &'static [&'static str],
    /// Its default, as a number, a string or a list of strings.
    pub default: fn() -> serde_json::Value,
}

impl Key {
    /// The key without its section.
    pub fn leaf(&self) -> &'static str {
        self.name.rsplit('.').next().unwrap_or(self.name)
    }

    /// The environment variable that sets it.
    pub fn variable(&self) -> String {
        format!("{ENVIRONMENT_PREFIX}{}", self.name.replace('.', ENVIRONMENT_SEPARATOR).to_ascii_uppercase())
    }
}

/// Settings that belong together, a table of the file.
#[derive(Debug)]
pub struct Section {
    /// Its name, with the sections it lies in: `chat.retention`.
    pub name: &'static str,
    /// What it is about, line by line.
    pub doc: &'static [&'static str],
    /// Its settings, without those of sections that lie in it.
    pub keys: &'static [Key],
}

/// Declares a section: the struct that holds its values, their defaults, and its part of the table. The
/// comments above a field become both its documentation and the comments of the reference file, so the two
/// cannot drift apart. Sections that lie in it follow after `with`.
macro_rules! section {
    (
        $(#[doc = $section_doc:literal])*
        $name:ident at $path:literal {
            $( $(#[doc = $doc:literal])* $field:ident: $type:ty = $default:expr, $kind:expr; )*
        }
        $( with { $( $inner:ident: $inner_type:ty ),* } )?
    ) => {
        $(#[doc = $section_doc])*
        #[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct $name {
            $( $(#[doc = $doc])* pub $field: $type, )*
            $($(
                #[doc = concat!("The section `", $path, ".", stringify!($inner), "`.")]
                pub $inner: $inner_type,
            )*)?
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $( $field: $default, )* $($( $inner: <$inner_type>::default(), )*)? }
            }
        }

        impl $name {
            /// This section's part of the table of settings.
            pub(super) const SECTION: $crate::settings::keys::Section = $crate::settings::keys::Section {
                name: $path,
                doc: &[$($section_doc),*],
                keys: &[ $( $crate::settings::keys::Key {
                    name: concat!($path, ".", stringify!($field)),
                    kind: $kind,
                    doc: &[$($doc),*],
                    // Nothing here can fail to serialize; if it did, the null would be refused as a value.
                    default: || serde_json::to_value($name::default().$field).unwrap_or_default(),
                } ),* ],
            };
        }
    };
}
pub(super) use section;
