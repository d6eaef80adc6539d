"""Pages of figures: tables of records, theory beside measurements, studies."""
