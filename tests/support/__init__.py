"""What the tests share: datagrams made and read without the package."""
