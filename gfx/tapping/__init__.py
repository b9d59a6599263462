"""Which activations are distilled, and how a student's are compared with a teacher's."""
