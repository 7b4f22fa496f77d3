pub struct RealDisk;
