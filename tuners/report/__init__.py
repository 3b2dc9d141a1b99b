"""The report of a sweep: its charts, its alarms, and the page that holds them."""
