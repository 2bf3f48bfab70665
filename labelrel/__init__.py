"""labelrel: estimate how reliable weak labels are, clean them, align a strong model on the rest."""

__version__ = "0.1.0"
