"""What commands show of figures: tables, charts, pictures, and the runs that they belong to."""
