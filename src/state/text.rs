//! How keys, ids and paths stand in the JSON of state files: hexadecimal digits, and text where a path is text.

/// Keys, ids and secrets as hexadecimal digits.
pub(super) mod hex {
    use data_encoding::HEXLOWER;
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    /// A fixed number of bytes.
    pub(crate) trait Bytes: Sized {
        /// The bytes.
        fn bytes(&self) -> &[u8];
        /// The value, if the number of bytes is right.
        fn from_bytes(bytes: &[u8]) -> Option<Self>;
    }

    pub(crate) fn serialize<T: Bytes, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&HEXLOWER.encode(value.bytes()))
    }

    pub(crate) fn deserialize<'de, T: Bytes, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse(&text).ok_or_else(|| D::Error::custom("not the expected number of hexadecimal digits"))
    }

    pub(crate) fn parse<T: Bytes>(text: &str) -> Option<T> {
        T::from_bytes(&HEXLOWER.decode(text.as_bytes()).ok()?)
    }

    /// The same where there may be none.
    pub(crate) mod option {
        use data_encoding::HEXLOWER;
        use serde::de::Error;
        use serde::{Deserialize, Deserializer, Serialize, Serializer};

        use super::Bytes;

        pub(crate) fn serialize<T: Bytes, S: Serializer>(value: &Option<T>, serializer: S) -> Result<S::Ok, S::Error> {
            value.as_ref().map(|value| HEXLOWER.encode(value.bytes())).serialize(serializer)
        }

        pub(crate) fn deserialize<'de, T: Bytes, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
            let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
            let value = super::parse(&text);
            value.map(Some).ok_or_else(|| D::Error::custom("not the expected number of hexadecimal digits"))
        }
    }
}

/// Paths: a string, or where one is not UTF-8 an object with its bytes in base64.
pub(super) mod path {
    use std::ffi::OsString;
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    use std::path::{Path, PathBuf};

    use data_encoding::BASE64;
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    enum Stored {
        Text(String),
        Bytes { base64: String },
    }

    impl Stored {
        fn of(path: &Path) -> Stored {
            match path.to_str() {
                Some(text) => Stored::Text(text.to_owned()),
                None => Stored::Bytes { base64: BASE64.encode(path.as_os_str().as_bytes()) },
            }
        }

        fn into_path<E: Error>(self) -> Result<PathBuf, E> {
            match self {
                Stored::Text(text) => Ok(text.into()),
                Stored::Bytes { base64 } => {
                    let bytes = BASE64.decode(base64.as_bytes()).map_err(E::custom)?;
                    Ok(OsString::from_vec(bytes).into())
                }
            }
        }
    }

    /// Several.
    pub(crate) mod list {
        use super::{Deserialize, Deserializer, PathBuf, Serialize, Serializer, Stored};

        pub(crate) fn serialize<S: Serializer>(paths: &[PathBuf], serializer: S) -> Result<S::Ok, S::Error> {
            paths.iter().map(|path| Stored::of(path)).collect::<Vec<_>>().serialize(serializer)
        }

        pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<PathBuf>, D::Error> {
            Vec::<Stored>::deserialize(deserializer)?.into_iter().map(Stored::into_path).collect()
        }
    }

    /// One or none.
    pub(crate) mod option {
        use super::{Deserialize, Deserializer, PathBuf, Serialize, Serializer, Stored};

        pub(crate) fn serialize<S: Serializer>(path: &Option<PathBuf>, serializer: S) -> Result<S::Ok, S::Error> {
            path.as_deref().map(Stored::of).serialize(serializer)
        }

        pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<PathBuf>, D::Error> {
            Option::<Stored>::deserialize(deserializer)?.map(Stored::into_path).transpose()
        }
    }
}
