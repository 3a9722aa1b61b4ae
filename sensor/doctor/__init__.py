"""What the sensor needs of this machine, checked one by one: a `Host` goes in, `Finding`s come out."""
