"""The weak supervisor: who is asked, in which wordings, and how no answer gets lost."""
