"""What people run on recordings: recognise, stream, align, write down."""
