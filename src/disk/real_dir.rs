pub struct RealDir;
