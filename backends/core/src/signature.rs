//! What a graph takes and gives, and the check of a caller's tensors against it.

use std::borrow::Borrow;
use std::fmt;

use crate::error::clip;
use crate::{Dtype, Error, ErrorKind, Result, Tensor, display_shape};

/// One input or output of a graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// The model's own name for it.
    pub name: String,
    /// The type of its elements.
    pub dtype: Dtype,
    /// Its dimensions in elements, `None` for a dynamic one; empty for a scalar.
    pub dimensions: Vec<Option<usize>>,
}

/// The inputs and outputs of a graph, in the model's order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signature {
    /// What a call must give.
    pub inputs: Vec<TensorInfo>,
    /// What a call gives back.
    pub outputs: Vec<TensorInfo>,
    /// Whether a session remembers something from one run to the next.
    pub stateful: bool,
    /// Dimensions of inputs that have to agree in a call.
    pub shared: Vec<SharedDimension>,
}

/// A dynamic dimension that several inputs share by name: `batch`, say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedDimension {
    /// The model's own name for it.
    pub name: String,
    /// Where it occurs: the input's place in the signature, and the axis.
    pub places: Vec<(usize, usize)>,
}

impl TensorInfo {
    /// Whether a tensor of this dtype and shape fits.
    pub fn accepts(&self, dtype: Dtype, shape: &[usize]) -> bool {
        self.dtype == dtype
            && self.dimensions.len() == shape.len()
            && self
                .dimensions
                .iter()
                .zip(shape)
                .all(|(expected, got)| expected.is_none_or(|e| e == *got))
    }

    /// The shape, where no dimension is dynamic.
    pub fn static_shape(&self) -> Option<Vec<usize>> {
        self.dimensions.iter().copied().collect()
    }
}

impl fmt::Display for TensorInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dimensions: Vec<String> = self
            .dimensions
            .iter()
            .map(|d| d.map_or("?".to_owned(), |d| d.to_string()))
            .collect();
        write!(f, "{} [{}]", self.dtype, dimensions.join(", "))
    }
}

impl Signature {
    /// Puts named tensors into the signature's order, each checked.
    ///
    /// # Errors
    /// `InvalidArgument` for a name that is unknown or given twice, an input that is missing, and a
    /// tensor of another dtype, rank or dimension.
    pub fn arrange<T: Borrow<Tensor>>(&self, named: Vec<(String, T)>) -> Result<Vec<T>> {
        let mut slots = self.slots();
        for (name, tensor) in named {
            self.place(&mut slots, &name, tensor)?;
        }
        self.check_slots(slots)
    }

    /// A place for each input, in the signature's order.
    pub fn slots<T>(&self) -> Vec<Option<T>> {
        self.inputs.iter().map(|_| None).collect()
    }

    /// Puts a named tensor into its slot.
    ///
    /// # Errors
    /// `InvalidArgument` for a name that is unknown or given twice.
    pub fn place<T>(&self, slots: &mut [Option<T>], name: &str, tensor: T) -> Result<()> {
        let Some(index) = self.inputs.iter().position(|input| input.name == name) else {
            let (name, expected) = (clip(name), self.input_names());
            return Err(invalid(format!(
                "unknown input `{name}`: expected {expected}"
            )));
        };
        match slots[index].replace(tensor) {
            None => Ok(()),
            Some(_) => Err(invalid(format!("input `{}` is given twice", clip(name)))),
        }
    }

    /// Checks that every input is there and fits; the slots are in the signature's order.
    ///
    /// # Errors
    /// `InvalidArgument` for an input that is missing or does not fit, and for inputs that disagree about a
    /// dimension that they share.
    pub fn check_slots<T: Borrow<Tensor>>(&self, slots: Vec<Option<T>>) -> Result<Vec<T>> {
        debug_assert_eq!(slots.len(), self.inputs.len(), "one slot per input");
        // In the memory of the slots, which are as large as what they hold.
        let tensors: Vec<T> = slots
            .into_iter()
            .zip(&self.inputs)
            .map(|(slot, info)| {
                let name = || clip(&info.name);
                let slot = slot.ok_or_else(|| {
                    invalid(format!("missing input `{}`: expected {info}", name()))
                })?;
                let tensor: &Tensor = slot.borrow();
                if !info.accepts(tensor.dtype(), tensor.shape()) {
                    let (name, dtype) = (name(), tensor.dtype());
                    let shape = display_shape(tensor.shape());
                    return Err(invalid(format!(
                        "input `{name}`: expected {info}, got {dtype} {shape}"
                    )));
                }
                Ok(slot)
            })
            .collect::<Result<_>>()?;
        self.check_shared(&tensors)?;
        Ok(tensors)
    }

    fn check_shared<T: Borrow<Tensor>>(&self, tensors: &[T]) -> Result<()> {
        let size = |&(input, axis): &(usize, usize)| tensors[input].borrow().shape()[axis];
        for SharedDimension { name, places } in &self.shared {
            let Some((first, rest)) = places.split_first() else {
                continue;
            };
            if let Some(other) = rest.iter().find(|place| size(place) != size(first)) {
                let place = |place: &(usize, usize)| {
                    let input = clip(&self.inputs[place.0].name);
                    format!("{} in input `{input}` (axis {})", size(place), place.1)
                };
                let (name, first, other) = (clip(name), place(first), place(other));
                return Err(invalid(format!(
                    "dimension `{name}` is {first}, but {other}"
                )));
            }
        }
        Ok(())
    }

    fn input_names(&self) -> String {
        const MOST: usize = 8;
        if self.inputs.is_empty() {
            return "no inputs".to_owned();
        }
        let listed = self.inputs.iter().take(MOST);
        let names: Vec<String> = listed
            .map(|input| format!("`{}`", clip(&input.name)))
            .collect();
        let more = self.inputs.len().saturating_sub(MOST);
        let more = if more > 0 {
            format!(" or one of {more} more")
        } else {
            String::new()
        };
        names.join(", ") + &more
    }
}

fn invalid(message: String) -> Error {
    Error::new(ErrorKind::InvalidArgument, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signature() -> Signature {
        let info = |name: &str, dimensions: &[Option<usize>]| TensorInfo {
            name: name.to_owned(),
            dtype: Dtype::F32,
            dimensions: dimensions.to_vec(),
        };
        Signature {
            inputs: vec![info("a", &[Some(2), None]), info("b", &[])],
            ..Signature::default()
        }
    }

    fn tensor(dtype: Dtype, shape: &[usize]) -> Tensor {
        let length = crate::byte_length(dtype, shape).expect("small");
        Tensor::copied_from(dtype, shape.to_vec(), &vec![0; length]).expect("valid")
    }

    #[test]
    fn inputs_are_arranged_by_name() {
        let inputs = vec![
            ("b".to_owned(), tensor(Dtype::F32, &[])),
            ("a".to_owned(), tensor(Dtype::F32, &[2, 5])),
        ];
        let arranged = signature().arrange(inputs).expect("fits");
        assert_eq!(arranged[0].shape(), [2, 5]);
        assert_eq!(arranged[1].shape(), [0usize; 0]);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let a = || ("a".to_owned(), tensor(Dtype::F32, &[2, 5]));
        let b = || ("b".to_owned(), tensor(Dtype::F32, &[]));
        let cases = [
            (
                vec![a(), b(), ("c".to_owned(), tensor(Dtype::F32, &[]))],
                "unknown input `c`: expected `a`, `b`",
            ),
            (vec![a(), a(), b()], "input `a` is given twice"),
            (vec![a()], "missing input `b`: expected f32 []"),
            (
                vec![b(), ("a".to_owned(), tensor(Dtype::U8, &[3]))],
                "input `a`: expected f32 [2, ?], got u8 [3]",
            ),
            (
                vec![b(), ("a".to_owned(), tensor(Dtype::F32, &[3, 1]))],
                "input `a`: expected f32 [2, ?], got f32 [3, 1]",
            ),
        ];
        for (inputs, message) in cases {
            let error = signature().arrange(inputs).expect_err(message);
            assert_eq!(error.kind(), ErrorKind::InvalidArgument);
            assert_eq!(error.to_string(), message);
        }
    }
}
