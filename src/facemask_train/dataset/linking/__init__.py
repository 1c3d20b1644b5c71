"""Links between photographs that a hash of the whole image does not see: crops, rotations, series of one scene."""
