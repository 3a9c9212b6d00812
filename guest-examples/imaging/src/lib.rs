//! From the bytes of a photo to what a model makes of it.
//!
//! Steps: [`decode`] reads JPEG or PNG of any colour kind and turns it upright; a [`Preparation`] says how the
//! model wants its pictures, put together from what the host tells, what the command line says ([`Flags`]) and,
//! for the rest, assumptions that it lists; [`Preparation::tensor`] crops, scales and normalises; [`PictureModel`] does
//! all of it for one model and runs that; [`Classes`] ranks a classifier's scores and names them.
//!
//! It does not manage colour profiles, or read formats other than JPEG and PNG.

mod classes;
mod decode;
mod flags;
mod picture_model;
mod preparation;

pub use classes::{Class, Classes};
pub use decode::{DecodeError, decode};
pub use flags::{Flags, HELP};
pub use picture_model::{PhotoError, PictureModel};
pub use preparation::Preparation;
