pub struct RealFile;
