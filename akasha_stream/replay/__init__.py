"""Reading a part of the log again: what it would change in a shard, the shard made anew beside itself, side stores."""
