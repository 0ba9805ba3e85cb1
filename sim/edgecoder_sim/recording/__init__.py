"""What the recorder keeps while a run goes on: open tasks and swaps, who believes what, and the files it writes."""
