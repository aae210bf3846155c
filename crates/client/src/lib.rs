//! Publishing by actor message from outside the nodes.
