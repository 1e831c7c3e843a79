//! A container of ours as it shall be: kept, started, made, or made again.

use super::{ContainerSpec, Engine, Error, Inspected, spec::SPEC_LABEL};

/// What was done about a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ensured {
    /// It is as it shall be, and runs.
    Kept,
    /// It was as it shall be, and did not run.
    Started,
    /// There was none.
    Created,
    /// There was one of another image or another making.
    Replaced,
}

impl Engine {
    /// Sees to it that a container of this specification runs. One of the same image and the same making stays.
    ///
    /// # Errors
    ///
    /// The engine does not answer or refuses, the image is not there, or the name is a user's.
    pub fn ensure_container(&self, spec: &ContainerSpec) -> Result<Ensured, Error> {
        let image = self.image(&spec.image)?.ok_or_else(|| Error::NoImage(spec.image.clone()))?;
        let there = self.container(&spec.name)?;
        let done = match there {
            Some(there) if !there.is_ours() => return Err(Error::NameTaken(spec.name.clone())),
            Some(there) if is_as(&there, spec, &image) => {
                if there.state.running {
                    return Ok(Ensured::Kept);
                }
                Ensured::Started
            }
            Some(there) => {
                self.stop_container(&there.id, spec.stop_timeout)?;
                self.remove_container(&there.id)?;
                Ensured::Replaced
            }
            None => Ensured::Created,
        };
        if done != Ensured::Started {
            self.create_container(spec, &image)?;
        }
        self.start_container(&spec.name)?;
        Ok(done)
    }
}

fn is_as(there: &Inspected, spec: &ContainerSpec, image: &str) -> bool {
    there.image == image && there.labels().get(SPEC_LABEL) == Some(&spec.digest(image))
}
